/** Which cells of a row are one feature, and what the features are called. Pure. */
import type { FeatureBinding } from '@slipway/proto/slipway/registry/v1/model'
import { Failure } from '@slipway/rpc'
import type { TableInput } from './row-table.ts'

/** Most features of one explanation; more are to be grouped. */
export const MAX_FEATURES = 1024

/** Cells of one input that belong together. */
export interface CellRange {
  /** Index of the input. */
  readonly input: number
  readonly start: number
  readonly end: number
}

/** A feature, or several that count as one. */
export interface Player {
  readonly name: string
  readonly cells: readonly CellRange[]
}

/**
 * The features of a row: the bound columns in the order of the bindings, then the others as `input[column]`; an input
 * of more than one dimension a row without bindings is one feature.
 */
export function playersOf(
  inputs: readonly TableInput[],
  bindings: readonly Pick<FeatureBinding, 'feature' | 'input' | 'column'>[],
): Player[] {
  const bound = new Set<string>()
  const players: Player[] = []
  for (const { feature, input: name, column } of bindings) {
    const input = inputs.findIndex((each) => each.name === name)
    if (input < 0 || column >= (inputs[input]?.cells ?? 0)) continue
    bound.add(`${input}:${column}`)
    players.push({ name: feature, cells: [{ input, start: column, end: column + 1 }] })
  }
  for (const [input, { name, rowShape, cells }] of inputs.entries()) {
    const free = Array.from({ length: cells }, (_, cell) => cell).filter((cell) => !bound.has(`${input}:${cell}`))
    if (rowShape.length > 1 && free.length > 0) {
      players.push({ name, cells: free.map((start) => ({ input, start, end: start + 1 })) })
      continue
    }
    for (const start of free)
      players.push({
        name: rowShape.length === 0 ? name : `${name}[${start}]`,
        cells: [{ input, start, end: start + 1 }],
      })
  }
  return players.map(({ name, cells }) => ({ name, cells: joined(cells) }))
}

/** Makes one feature of those of each group. Throws INVALID_ARGUMENT about a group that names what is not there. */
export function groupPlayers(
  players: readonly Player[],
  groups: readonly { readonly name: string; readonly features: readonly string[] }[],
): Player[] {
  const groupOf = new Map<string, number>()
  const names = new Set(players.map(({ name }) => name))
  for (const [index, group] of groups.entries()) {
    for (const feature of group.features) {
      const field = `options.groups[${index}].features`
      if (!names.has(feature)) throw Failure.invalid(field, `there is no feature ${feature}`)
      if (groupOf.has(feature)) throw Failure.invalid(field, `${feature} is in two groups`)
      groupOf.set(feature, index)
    }
  }
  const made = new Set<number>()
  const grouped: Player[] = []
  for (const player of players) {
    const index = groupOf.get(player.name)
    if (index === undefined) grouped.push(player)
    else if (!made.has(index)) {
      made.add(index)
      const members = players.filter(({ name }) => groupOf.get(name) === index)
      grouped.push({ name: groups[index]?.name ?? '', cells: members.flatMap(({ cells }) => cells) })
    }
  }
  if (grouped.length <= MAX_FEATURES) return grouped
  throw Failure.invalid('options.groups', `${grouped.length} features are more than ${MAX_FEATURES}: group them`)
}

/** Neighbouring cells as one range. */
function joined(cells: readonly CellRange[]): CellRange[] {
  const ranges: CellRange[] = []
  for (const cell of cells) {
    const last = ranges.at(-1)
    if (last !== undefined && last.input === cell.input && last.end === cell.start)
      ranges[ranges.length - 1] = { ...last, end: cell.end }
    else ranges.push(cell)
  }
  return ranges
}
