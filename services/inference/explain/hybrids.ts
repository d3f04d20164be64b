/** Puts rows together from an explained row and background rows: the cells of a coalition's features from the one, the others from the other. */
import type { Hybrids } from '@slipway/stats'
import { copyBytes } from '../bytes.ts'
import type { RawTensor } from '../local-predictions.ts'
import type { Player } from './players.ts'
import { type RowTable, shapeOf, type TableColumn, type TableInput } from './row-table.ts'

/** A row of a table. */
export interface RowOf {
  readonly table: RowTable
  readonly row: number
}

/** For each background row one byte a feature: 1 where the explained row has another value, bit for bit. */
export function compare(
  { table, row }: RowOf,
  background: RowTable,
  rows: number,
  players: readonly Player[],
): Uint8Array {
  const differs = new Uint8Array(rows * players.length)
  for (let other = 0; other < rows; other++) {
    for (const [index, { cells }] of players.entries()) {
      const same = cells.every(({ input, start, end }) => {
        const spec = table.inputs[input] as TableInput
        const [left, right] = [table.columns[input] as TableColumn, background.columns[input] as TableColumn]
        for (let cell = start; cell < end; cell++)
          if (!isSameCell(spec, left, row * spec.cells + cell, right, other * spec.cells + cell)) return false
        return true
      })
      differs[other * players.length + index] = same ? 0 : 1
    }
  }
  return differs
}

/** Hybrids of one explained row, and those of them that are asked for. */
export interface HybridBatch {
  readonly explained: RowOf
  readonly background: RowTable
  readonly players: readonly Player[]
  readonly hybrids: Hybrids
  /** Which of the hybrids. */
  readonly chosen: readonly number[]
}

/** The hybrids' inputs as tensors. */
export function hybridTensors({ explained, background, players, hybrids, chosen }: HybridBatch): RawTensor[] {
  const { inputs } = explained.table
  const ranges = rangesOf(players)
  const columns = inputs.map((input, index) => emptyColumn(input, chosen.length, background.columns[index]))
  for (const [place, hybrid] of chosen.entries()) {
    const other = hybrids.backgrounds[hybrid] as number
    for (const [index, input] of inputs.entries())
      copyCells(input, columns[index] as Filling, place, background.columns[index], other, 0, input.cells)
    const coalition = hybrid * players.length
    for (let at = 0; at < ranges.length; at += RANGE_WORDS) {
      if (hybrids.coalitions[coalition + (ranges[at] as number)] !== 1) continue
      const input = ranges[at + 1] as number
      const start = ranges[at + 2] as number
      const end = ranges[at + 3] as number
      const source = explained.table.columns[input]
      copyCells(inputs[input] as TableInput, columns[input] as Filling, place, source, explained.row, start, end)
    }
  }
  return inputs.map((input, index) => {
    const column = columns[index] as Filling
    const bytes = column.kind === 'fixed' ? column.bytes : Buffer.concat(column.texts)
    return { name: input.name, datatype: input.datatype, shape: shapeOf(input, chosen.length), bytes }
  })
}

const RANGE_WORDS = 4
const knownRanges = new WeakMap<readonly Player[], Int32Array>()

/** The cells of all players as player, input, start and end, one after another: this is read for every row. */
function rangesOf(players: readonly Player[]): Int32Array {
  let ranges = knownRanges.get(players)
  if (ranges === undefined) {
    const words = players.flatMap(({ cells }, player) =>
      cells.flatMap(({ input, start, end }) => [player, input, start, end]),
    )
    ranges = Int32Array.from(words)
    knownRanges.set(players, ranges)
  }
  return ranges
}

type Filling = { readonly kind: 'fixed'; readonly bytes: Buffer } | { readonly kind: 'texts'; readonly texts: Buffer[] }

function emptyColumn({ cells, cellBytes }: TableInput, rows: number, like: TableColumn | undefined): Filling {
  if (like?.kind === 'texts') return { kind: 'texts', texts: new Array<Buffer>(rows * cells) }
  return { kind: 'fixed', bytes: Buffer.allocUnsafe(rows * cells * cellBytes) }
}

function copyCells(
  { cells, cellBytes }: TableInput,
  target: Filling,
  targetRow: number,
  source: TableColumn | undefined,
  sourceRow: number,
  start: number,
  end: number,
): void {
  const to = targetRow * cells
  const from = sourceRow * cells
  if (target.kind === 'fixed' && source?.kind === 'fixed') {
    const [first, last] = [(from + start) * cellBytes, (from + end) * cellBytes]
    copyBytes(source.bytes, first, last, target.bytes, (to + start) * cellBytes)
  } else if (target.kind === 'texts' && source?.kind === 'texts') {
    for (let cell = start; cell < end; cell++) target.texts[to + cell] = source.texts[from + cell] as Buffer
  }
}

function isSameCell({ cellBytes }: TableInput, left: TableColumn, a: number, right: TableColumn, b: number): boolean {
  if (left.kind === 'texts' && right.kind === 'texts') return (left.texts[a] as Buffer).equals(right.texts[b] as Buffer)
  if (left.kind !== 'fixed' || right.kind !== 'fixed') return false
  for (let byte = 0; byte < cellBytes; byte++)
    if (left.bytes[a * cellBytes + byte] !== right.bytes[b * cellBytes + byte]) return false
  return true
}
