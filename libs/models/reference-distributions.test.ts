import { FeatureType, ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { buildReferenceDistributions, type TrainingRow } from './reference-distributions.ts'

const dayMicros = 86_400_000_000n

test('numbers fall into quantile bins and text into categories, each day counted by itself', async () => {
  const rows: TrainingRow[] = Array.from({ length: 300 }, (_, index) => ({
    timeMicros: BigInt(index % 3) * dayMicros + 5n,
    values: { distance: index, origin: ['AUS', 'BOS', null][index % 3], late: index % 2 === 0, score: index / 300 },
  }))
  const [distance, origin, late, score] = await buildReferenceDistributions({
    features: [
      { feature: 'distance', type: FeatureType.DOUBLE },
      { feature: 'origin', type: FeatureType.STRING },
      { feature: 'late', type: FeatureType.BOOL },
    ],
    outputs: [{ output: 'score' }],
    rows,
  })
  expect(distance?.windows.map((window) => window.startTime?.seconds)).toEqual([0n, 86_400n, 172_800n])
  expect(distance?.windows[0]?.length).toMatchObject({ seconds: 86_400n, nanos: 0 })
  expect(distance?.cells.case === 'numeric' && distance.cells.value.edges).toHaveLength(11)
  expect(distance?.windows.flatMap((window) => window.counts).reduce((sum, count) => sum + count)).toBe(300n)
  expect(distance?.mean).toBeCloseTo(149.5)
  expect(origin?.cells).toMatchObject({ case: 'categorical', value: { values: ['AUS', 'BOS'] } })
  // Categories, unseen, missing.
  expect(origin?.windows.map((window) => window.counts)).toEqual([
    [100n, 0n, 0n, 0n],
    [0n, 100n, 0n, 0n],
    [0n, 0n, 0n, 100n],
  ])
  expect(late?.windows[0]?.counts.slice(0, 2)).toEqual([50n, 50n])
  expect(score).toMatchObject({ name: 'score', kind: ReferenceKind.OUTPUT })
})

test('rows may come one by one, with missing and non-finite values counted apart', async () => {
  async function* rows(): AsyncGenerator<TrainingRow> {
    for (const x of [1, 2, null, Number.NaN, undefined, 4n]) yield { timeMicros: -1n, values: { x } }
  }
  const [x] = await buildReferenceDistributions({
    features: [{ feature: 'x', type: FeatureType.DOUBLE }],
    rows: rows(),
    bins: 2,
  })
  expect(x?.windows[0]?.startTime).toMatchObject({ seconds: -86_400n, nanos: 0 })
  expect(x?.windows[0]?.counts.slice(-4)).toEqual([0n, 0n, 2n, 1n])
})

test('a column without a number, or of another type, is named', async () => {
  const features = [{ feature: 'x', type: FeatureType.DOUBLE }]
  const build = (x: string | null) =>
    buildReferenceDistributions({ features, rows: [{ timeMicros: 0n, values: { x } }] })
  await expect(build(null)).rejects.toThrow('x has no finite value')
  await expect(build('a')).rejects.toThrow('x holds a string, not a number')
})
