import { create } from '@bufbuild/protobuf'
import { VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import { FeatureStatus, PredictionLoggedSchema } from '@slipway/proto/slipway/events/v1/prediction'
import { FeatureSource, FeatureType, ModelVersionSchema, ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { createRandom, emptyCounts, numericReference, type Random } from '@slipway/stats'
import { beforeAll, describe, expect, test } from 'vitest'
import { assess, distributionOf } from './assess.ts'
import { type Baseline, baselineOf } from './baseline.ts'
import { type FlightRow, flightFeatures, readFlights } from './flights.fixture.ts'
import { nextIncidents, type OpenIncident } from './incidents.ts'
import { completePolicy, readPolicy } from './policy.ts'
import { distribution } from './synthetic.fixture.ts'
import { hourOf } from './time.ts'
import type { Pane } from './window.ts'

const REFERENCE_DAYS = 56
const CLEAN_DAYS = 14
const REFERENCE_PER_DAY = 900
const LIVE_PER_DAY = 1500
const DISTANCE = flightFeatures.indexOf('distance')
const policy = readPolicy(completePolicy(undefined))

let flightsByDay: Map<number, FlightRow[]>

beforeAll(async () => {
  flightsByDay = await readFlights(2500)
})

/** What a model of these features would say: later, farther and after bad hours is more likely late. */
function score(values: readonly number[]): number {
  const [hour = 0, distance = 0, , delay = 0, share = 0, destinationDelay = 0, routeDelay = 0] = values.map((value) =>
    Number.isNaN(value) ? 0 : value,
  )
  const sum = -3 + hour / 12 + distance / 2000 + delay / 40 + 2 * share + destinationDelay / 80 + routeDelay / 30
  return 1 / (1 + Math.exp(-sum))
}

function sample(random: Random, day: number, count: number): FlightRow[] {
  return random
    .shuffle([...(flightsByDay.get(day) ?? [])])
    .slice(0, count)
    .sort((a, b) => (a.timeMicros < b.timeMicros ? -1 : 1))
}

function baselineFrom(rows: readonly FlightRow[]): Baseline {
  const times = rows.map(({ timeMicros }) => timeMicros)
  const column = (feature: number) =>
    rows.map(({ values }) => (Number.isNaN(values[feature]) ? undefined : values[feature]))
  const version = create(ModelVersionSchema, {
    name: 'models/flights/versions/1',
    digest: 'sha256:flights',
    features: flightFeatures.map((feature, index) => {
      return { feature, type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: 'input', column: index }
    }),
    outputs: [{ output: 'late', tensor: 'probabilities', column: 1 }],
    referenceDistributions: [
      ...flightFeatures.map((name, index) =>
        distribution(name, ReferenceKind.FEATURE, numericReference(column(index), times)),
      ),
      distribution(
        'late',
        ReferenceKind.OUTPUT,
        numericReference(
          rows.map((row) => score(row.values)),
          times,
        ),
      ),
    ],
  })
  return baselineOf(version)
}

/** Counts rows by the hour, as the service does. */
function panesOf(baseline: Baseline, rows: readonly FlightRow[]): Pane[] {
  return [...Map.groupBy(rows, ({ timeMicros }) => hourOf(timeMicros))].map(([hour, members]) => {
    const counts = emptyCounts(baseline.cellCount)
    for (const { values } of members) {
      const prediction = create(PredictionLoggedSchema, {
        featureStatuses: values.map((value) => (Number.isNaN(value) ? FeatureStatus.NOT_FOUND : FeatureStatus.PRESENT)),
        doubles: [...values],
        outputs: [score(values)],
      })
      baseline.eachCell(prediction, (cell) => {
        counts[cell] = (counts[cell] ?? 0) + 1
      })
    }
    return { hour, samplingRate: 1, rows: members.length, counts }
  })
}

/** Runs the pure pipeline over live panes; gives every incident that was ever opened, as it was at the end. */
function incidentsOver(baseline: Baseline, panes: readonly Pane[], fromHour: number, toHour: number) {
  const everOpened = new Map<string, OpenIncident>()
  for (let endHour = fromHour + policy.lookHours; endHour <= toHour; endHour += policy.lookHours) {
    const window = panes.filter(({ hour }) => hour >= endHour - policy.windowHours && hour < endHour)
    const versions = [{ baseline, panes: window }]
    const [found] = assess({ versions, firstHour: fromHour, endHour, revision: 0, policy })
    if (found === undefined) continue
    const open = [...everOpened.values()].filter(({ incident }) => incident.resolveTime === undefined)
    const steps = nextIncidents(open, {
      monitor: 'monitors/flights',
      endpoint: 'endpoints/flights',
      modelVersion: baseline.modelVersion,
      digest: baseline.digest,
      endHour,
      windowHours: policy.windowHours,
      verdicts: found.verdicts,
      distributionOf: (name) => {
        const column = baseline.columns.find((each) => each.name === name)
        if (column === undefined) throw new Error(`no column ${name}`)
        return distributionOf(column, found.window.counts)
      },
      answering: found.answering,
      falseIncidentsPerMonth: policy.falseIncidentsPerMonth,
      nowMicros: 0n,
    })
    for (const step of steps) everOpened.set(step.incident.name, step)
  }
  return [...everOpened.values()].map(({ incident }) => incident)
}

function inKilometres({ timeMicros, values }: FlightRow): FlightRow {
  return { timeMicros, values: values.map((value, feature) => (feature === DISTANCE ? value * 1.609344 : value)) }
}

describe('on real flights', () => {
  const starts = ['2001-01-18', '2001-01-22', '2001-02-05', '2001-02-20', '2001-03-07', '2001-03-26']
  test.each(starts)(
    'eight weeks from %s: no incident on 14 clean days, then kilometres open one that names distance within the day',
    (start) => {
      const firstDay = Date.parse(start) / 86_400_000
      for (const seed of [1, 2]) {
        const random = createRandom(`${start} ${seed}`)
        const days = (from: number, count: number, perDay: number) =>
          Array.from({ length: count }, (_, day) => sample(random, from + day, perDay)).flat()
        const baseline = baselineFrom(days(firstDay, REFERENCE_DAYS, REFERENCE_PER_DAY))
        expect(baseline.problem).toBe('')
        const liveDay = firstDay + REFERENCE_DAYS
        const faultHour = (liveDay + CLEAN_DAYS) * 24
        const clean = panesOf(baseline, days(liveDay, CLEAN_DAYS, LIVE_PER_DAY))
        const faulty = panesOf(baseline, sample(random, liveDay + CLEAN_DAYS, LIVE_PER_DAY).map(inKilometres))
        const panes = [...clean, ...faulty]
        expect(incidentsOver(baseline, panes, liveDay * 24, faultHour), `seed ${seed}`).toEqual([])
        const incidents = incidentsOver(baseline, panes, liveDay * 24, faultHour + 24)
        expect(
          incidents.map(({ features }) => features),
          `seed ${seed}`,
        ).toEqual([['distance']])
        expect(hourOf((incidents[0]?.detectedTime?.seconds ?? 0n) * 1_000_000n)).toBeLessThan(faultHour + 24)
      }
    },
  )

  test('a rollout opens nothing, for the new version or the old, at whatever hour it begins', () => {
    const firstDay = Date.parse('2001-02-05') / 86_400_000
    const random = createRandom('rollout')
    const days = (from: number, count: number, perDay: number) =>
      Array.from({ length: count }, (_, day) => sample(random, from + day, perDay)).flat()
    const [old, next] = ['old', 'new'].map((digest) => ({
      ...baselineFrom(days(firstDay, REFERENCE_DAYS, REFERENCE_PER_DAY)),
      digest,
    }))
    if (old === undefined || next === undefined) throw new Error('two baselines')
    const liveDay = firstDay + REFERENCE_DAYS
    const rows = days(liveDay, 4, LIVE_PER_DAY).map((row) => ({ row, chance: random.uniform() }))
    const hourInto = ({ timeMicros }: FlightRow) => Number(timeMicros) / 3.6e9 - liveDay * 24
    for (let startHour = 24.3; startHour < 48; startHour += 3) {
      const isNext = ({ row, chance }: (typeof rows)[number]) =>
        chance < (hourInto(row) < startHour ? 0 : hourInto(row) < startHour + 9 ? 0.05 : 1)
      const versions = [
        {
          baseline: old,
          panes: panesOf(
            old,
            rows.filter((each) => !isNext(each)).map(({ row }) => row),
          ),
        },
        {
          baseline: next,
          panes: panesOf(
            next,
            rows.filter(isNext).map(({ row }) => row),
          ),
        },
      ]
      const states = Array.from({ length: 4 * 8 }, (_, look) =>
        assess({ versions, firstHour: liveDay * 24, endHour: liveDay * 24 + 3 * (look + 1), revision: 0, policy })
          .flatMap(({ baseline, verdicts }) =>
            verdicts.map(({ name, state }) => ({ digest: baseline.digest, name, state })),
          )
          .filter(({ state }) => state === VerdictState.DRIFT),
      )
      expect(states.flat(), `from hour ${startHour}`).toEqual([])
    }
  })

  test('without calibration, as with a reference of three weeks, clean days do alarm, and the verdicts say why', () => {
    const firstDay = Date.parse('2001-02-05') / 86_400_000
    const random = createRandom('uncalibrated')
    const days = (from: number, count: number, perDay: number) =>
      Array.from({ length: count }, (_, day) => sample(random, from + day, perDay)).flat()
    const baseline = baselineFrom(days(firstDay, 21, REFERENCE_PER_DAY))
    const liveDay = firstDay + 21
    const panes = panesOf(baseline, days(liveDay, 7, LIVE_PER_DAY))
    const [incident] = incidentsOver(baseline, panes, liveDay * 24, (liveDay + 7) * 24)
    expect(incident?.features.some((name) => name.includes('delay'))).toBe(true)
    expect(incident?.evidence[0]).toMatchObject({ calibrationWindows: 0, overdispersion: 1 })
    expect(incident?.evidence[0]?.reason).toContain('fewer than 30 windows')
  })
})
