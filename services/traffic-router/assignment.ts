/**
 * Who gets which variant. A routing key falls into one of 10,000 buckets by its salted hash, and every bucket belongs to
 * one variant. Invariants:
 * 1. A variant holds exactly as many buckets as its weight in hundredths of a percent, so the probability of a variant
 *    over random keys is its weight.
 * 2. When weights change, a variant that grows or stays keeps every bucket it had, whatever the others do.
 * 3. A variant that shrinks gives back what it got last, so that a step forward and back ends with the same callers.
 * 4. The outcome depends on nothing but the buckets before and the new weights: it can be computed again from the log.
 */
import { hashBucket } from '@slipway/stats'

/** Number of buckets of an endpoint, and the sum of its variants' weights. */
export const BUCKET_COUNT = 10_000

/** Buckets from `start` up to, but without, `end`. */
export interface BucketRange {
  readonly start: number
  readonly end: number
}

/** A variant and what it holds: its weight in hundredths of a percent, its buckets in the order it got them. */
export interface Share {
  readonly name: string
  readonly weight: number
  readonly buckets: readonly BucketRange[]
}

/** The bucket of a routing key, 0 to 9999. */
export function bucketOf(routingKey: string, salt: string): number {
  return hashBucket(routingKey, salt, BUCKET_COUNT)
}

/** Gives every variant buckets for its new weight, by the rules above. Weights are integers that add up to 10,000. */
export function allocate(variants: readonly Share[]): Share[] {
  const total = variants.reduce((sum, variant) => sum + variant.weight, 0)
  if (total !== BUCKET_COUNT) throw new RangeError(`weights add up to ${total}, not ${BUCKET_COUNT}`)
  const kept = variants.map((variant) => ({ ...variant, buckets: firstBuckets(variant.buckets, variant.weight) }))
  const free = freeRanges(kept.flatMap((variant) => variant.buckets))
  const shares = new Map<string, Share>()
  for (const variant of kept.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const taken = takeFirst(free, variant.weight - count(variant.buckets))
    shares.set(variant.name, { ...variant, buckets: joined([...variant.buckets, ...taken]) })
  }
  return variants.map((variant) => shares.get(variant.name) ?? variant)
}

/** For each bucket the index of the variant that holds it. */
export function bucketTable(variants: readonly Pick<Share, 'buckets'>[]): Uint8Array {
  const table = new Uint8Array(BUCKET_COUNT)
  for (const [index, variant] of variants.entries()) {
    for (const range of variant.buckets) table.fill(index, range.start, range.end)
  }
  return table
}

function count(ranges: readonly BucketRange[]): number {
  return ranges.reduce((sum, range) => sum + range.end - range.start, 0)
}

function firstBuckets(ranges: readonly BucketRange[], wanted: number): BucketRange[] {
  return takeFirst([...ranges], wanted)
}

/** Takes `wanted` buckets off the front of `ranges`, which loses them; fewer when there are fewer. */
function takeFirst(ranges: BucketRange[], wanted: number): BucketRange[] {
  const taken: BucketRange[] = []
  let left = wanted
  while (left > 0) {
    const range = ranges.shift()
    if (range === undefined) break
    const end = Math.min(range.end, range.start + left)
    taken.push({ start: range.start, end })
    left -= end - range.start
    if (end < range.end) ranges.unshift({ start: end, end: range.end })
  }
  return taken
}

function freeRanges(held: readonly BucketRange[]): BucketRange[] {
  const free: BucketRange[] = []
  let at = 0
  for (const range of held.toSorted((a, b) => a.start - b.start)) {
    if (range.start > at) free.push({ start: at, end: range.start })
    at = Math.max(at, range.end)
  }
  if (at < BUCKET_COUNT) free.push({ start: at, end: BUCKET_COUNT })
  return free
}

/** Joins neighbours that follow each other, so that the list stays short. */
function joined(ranges: readonly BucketRange[]): BucketRange[] {
  const result: BucketRange[] = []
  for (const range of ranges) {
    const last = result.at(-1)
    if (last !== undefined && last.end === range.start)
      result[result.length - 1] = { start: last.start, end: range.end }
    else result.push(range)
  }
  return result
}
