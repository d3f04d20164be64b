import { VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import { emptyCounts } from '@slipway/stats'
import { describe, expect, test } from 'vitest'
import { assess } from './assess.ts'
import { baselineOf } from './baseline.ts'
import { completePolicy, readPolicy, thresholdOf } from './policy.ts'
import { liveStartMicros, logged, type SyntheticRow, syntheticRows, syntheticVersion } from './synthetic.fixture.ts'
import { hourOf } from './time.ts'
import type { Pane } from './window.ts'

const baseline = baselineOf(syntheticVersion('sha256:1'))
const policy = readPolicy(completePolicy(undefined))
const firstHour = hourOf(liveStartMicros)

function panesOf(rows: readonly SyntheticRow[]): Pane[] {
  return [...Map.groupBy(rows, ({ timeMicros }) => hourOf(timeMicros))].map(([hour, members]) => {
    const counts = emptyCounts(baseline.cellCount)
    for (const row of members) {
      baseline.eachCell(logged(row, 'p', 'sha256:1', 'e'), (cell) => {
        counts[cell] = (counts[cell] ?? 0) + 1
      })
    }
    return { hour, samplingRate: 1, rows: members.length, counts }
  })
}

/** Verdicts on the first live day, by column. */
function verdictsOn(rows: readonly SyntheticRow[], changed: Partial<typeof policy> = {}, endHour = firstHour + 24) {
  const versions = [{ baseline, panes: panesOf(rows) }]
  const [found] = assess({ versions, firstHour, endHour, revision: 0, policy: { ...policy, ...changed } })
  return new Map(found?.verdicts.map((verdict) => [verdict.name, verdict]))
}

const day = (rowsPerDay: number, seed = 'verdict') => syntheticRows(seed, liveStartMicros, 1, rowsPerDay)
const states = (rows: readonly SyntheticRow[], changed?: Partial<typeof policy>) =>
  Object.fromEntries([...verdictsOn(rows, changed)].map(([name, { state }]) => [name, state]))

const { DRIFT, NO_MATERIAL_DRIFT, INSUFFICIENT_DATA } = VerdictState
const quiet = {
  carrier: NO_MATERIAL_DRIFT,
  load: NO_MATERIAL_DRIFT,
  distance: NO_MATERIAL_DRIFT,
  hour: NO_MATERIAL_DRIFT,
  late: NO_MATERIAL_DRIFT,
}

describe('verdicts', () => {
  test('a day like the others is quiet, on a thousand rows and on a hundred thousand', () => {
    expect(states(day(1000))).toEqual(quiet)
    expect(states(day(100_000))).toEqual(quiet)
  })

  test('a shift too small to matter stays quiet however sure it is', () => {
    const shifted = day(100_000).map((row) => ({ ...row, distance: (row.distance ?? 0) * 1.06 }))
    expect(states(shifted)).toEqual(quiet)
    expect(states(shifted, { minimumEffect: 0 })).toMatchObject({ distance: DRIFT })
  })

  test('a shift of 0.3 standard deviations is seen in a thousand rows', () => {
    const shifted = day(1000).map((row) => ({ ...row, distance: (row.distance ?? 0) * Math.exp(0.3 * 0.7) }))
    expect(states(shifted)).toMatchObject({ distance: DRIFT, carrier: NO_MATERIAL_DRIFT, load: NO_MATERIAL_DRIFT })
  })

  test('one value in ten gone missing is seen though the others are as ever; one in forty is a bad day', () => {
    const gaps = (every: number) =>
      day(1000).map((row, index) => ({ ...row, distance: index % every === 0 ? undefined : row.distance }))
    expect(states(gaps(10))).toEqual({ ...quiet, distance: DRIFT })
    expect(states(gaps(40))).toEqual(quiet)
  })

  test('a category never seen is seen, wild numbers change nothing', () => {
    const unseen = day(1000).map((row, index) => ({ ...row, carrier: index % 10 === 0 ? 'XX' : row.carrier }))
    expect(states(unseen)).toEqual({ ...quiet, carrier: DRIFT })
    const wild = day(1000).map((row, index) => (index === 5 ? { ...row, distance: 1e38 } : row))
    expect(states(wild)).toEqual(quiet)
  })

  test('too few rows and a window that began before the watch are not judged, and say so', () => {
    const few = verdictsOn(day(100))
    expect(few.get('load')).toMatchObject({ state: INSUFFICIENT_DATA, sampleSize: 100n })
    expect(few.get('load')?.reason).toContain('200 are needed')
    const early = verdictsOn(day(1000), {}, firstHour + 21)
    expect(early.get('load')?.reason).toContain('less than a window')
  })

  test('a verdict says everything that it rests on', () => {
    const load = verdictsOn(day(1000)).get('load')
    expect(load).toMatchObject({ sampleSize: 1000n, referenceSize: 25_200n, calibrationWindows: 42, reason: '' })
    expect(load?.overdispersion).toBeGreaterThan(3)
    expect(load?.pThreshold).toBeCloseTo(0.1 / 240 / 5, 12)
    expect(load?.effectLow).toBeLessThanOrEqual(load?.effect ?? 0)
    expect(load?.effectHigh).toBeGreaterThanOrEqual(load?.effect ?? 1)
    const distance = verdictsOn(day(1000)).get('distance')
    expect(distance?.minimumDetectableEffect).toBeLessThan(load?.minimumDetectableEffect ?? 0)
  })

  test('what is ignored is not judged and leaves its budget to the others', () => {
    const verdicts = verdictsOn(day(1000), { ignored: new Set(['load', 'carrier']) })
    expect([...verdicts.keys()]).toEqual(['distance', 'hour', 'late'])
    expect(verdicts.get('late')?.pThreshold).toBe(thresholdOf(policy, 3))
  })
})
