/** Checks reference distributions against the bindings they speak of. Pure. */
import {
  type FeatureBinding,
  FeatureType,
  type OutputBinding,
  type ReferenceDistribution,
  ReferenceKind,
} from '@slipway/proto/slipway/registry/v1/model'
import { microsFromDuration, microsFromTimestamp } from '@slipway/resources'
import type { FieldViolation } from '@slipway/rpc'

/** Every problem of the distributions; empty when they are sound and each is of a bound feature or output. */
export function checkReferences(
  distributions: readonly ReferenceDistribution[],
  features: readonly FeatureBinding[],
  outputs: readonly Pick<OutputBinding, 'output'>[],
): FieldViolation[] {
  const typeByName = new Map(features.map((feature) => [feature.feature, feature.type]))
  const outputNames = new Set(outputs.map((output) => output.output))
  const seen = new Set<string>()
  return distributions.flatMap((distribution, index) => {
    const { kind, name } = distribution
    const isKnown = kind === ReferenceKind.OUTPUT ? outputNames.has(name) : typeByName.has(name)
    const problems = [...checkCells(distribution), ...checkWindows(distribution)]
    if (!isKnown)
      problems.push(['name', `${name} is not a bound ${kind === ReferenceKind.OUTPUT ? 'output' : 'feature'}`])
    if (seen.has(`${kind}:${name}`)) problems.push(['name', `${name} has a distribution already`])
    seen.add(`${kind}:${name}`)
    const isText = kind === ReferenceKind.FEATURE && typeByName.get(name) === FeatureType.STRING
    if (isText && distribution.cells.case === 'numeric') problems.push(['numeric', `${name} is text`])
    return problems.map(([field, description]) => ({
      field: `reference_distributions[${index}].${field}`,
      description,
    }))
  })
}

type Problem = [field: string, description: string]

function checkCells(distribution: ReferenceDistribution): Problem[] {
  const { cells } = distribution
  if (cells.case === undefined) return [['cells', 'must be numeric or categorical']]
  if (cells.case === 'categorical') {
    const distinct = new Set(cells.value.values).size
    return distinct === cells.value.values.length ? [] : [['categorical.values', 'must differ from each other']]
  }
  const { edges } = cells.value
  const last = edges.length - 1
  const sound = edges.every((edge, index) => {
    const before = edges[index - 1] ?? Number.NEGATIVE_INFINITY
    // The last bin is closed on both sides, so it may hold a single value.
    return Number.isFinite(edge) && (edge > before || (index === last && edge === before))
  })
  return sound ? [] : [['numeric.edges', 'must be finite and rise from each to the next']]
}

function checkWindows(distribution: ReferenceDistribution): Problem[] {
  const expected = cellCount(distribution)
  let endMicros: bigint | undefined
  return distribution.windows.flatMap((window, index): Problem[] => {
    const problems: Problem[] = []
    if (window.counts.length !== expected) {
      problems.push([`windows[${index}].counts`, `must be ${expected}, one a cell, not ${window.counts.length}`])
    }
    if (window.counts.some((count) => count < 0n)) problems.push([`windows[${index}].counts`, 'must not be negative'])
    if (window.startTime === undefined) return [...problems, [`windows[${index}].start_time`, 'must be set']]
    const start = microsFromTimestamp(window.startTime)
    const length = window.length ? microsFromDuration(window.length) : 0n
    if (length <= 0n) problems.push([`windows[${index}].length`, 'must be positive'])
    if (endMicros !== undefined && start < endMicros) {
      problems.push([`windows[${index}].start_time`, 'must not lie before the end of the window before'])
    }
    endMicros = start + length
    return problems
  })
}

function cellCount(distribution: ReferenceDistribution): number {
  const { cells } = distribution
  if (cells.case === 'numeric') return cells.value.edges.length - 1 + 4
  return cells.case === 'categorical' ? cells.value.values.length + 2 : 0
}
