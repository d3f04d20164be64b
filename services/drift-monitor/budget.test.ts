import { create } from '@bufbuild/protobuf'
import { VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import { FeatureStatus, PredictionLoggedSchema } from '@slipway/proto/slipway/events/v1/prediction'
import { FeatureSource, FeatureType, ModelVersionSchema, ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { createRandom, emptyCounts, numericReference } from '@slipway/stats'
import { expect, test } from 'vitest'
import { assess } from './assess.ts'
import { baselineOf } from './baseline.ts'
import { completePolicy, readPolicy } from './policy.ts'
import { distribution } from './synthetic.fixture.ts'
import { HOUR_MICROS } from './time.ts'
import type { Pane } from './window.ts'

const REFERENCE_DAYS = 56
const LIVE_DAYS = 31
/** How much the mean of each feature differs from day to day, in standard deviations of its values. */
const spreads = [0, 0, 0, 0.1, 0.1, 0.3, 0.3, 0.6]
const names = spreads.map((_, feature) => `feature_${feature}`)
const random = createRandom('budget')

interface Row {
  readonly hour: number
  readonly values: readonly number[]
}

function days(firstHour: number, count: number, rowsPerDay: number): Row[] {
  return Array.from({ length: count }, (_, day) => {
    const moods = spreads.map((spread) => spread * random.normal())
    return Array.from({ length: rowsPerDay }, () => ({
      hour: firstHour + day * 24 + random.integer(24),
      values: moods.map((mood) => mood + random.normal()),
    }))
  }).flat()
}

/** Incidents of a month without drift: alarms that lie more than a window behind the one before. */
function falseIncidents(falseIncidentsPerMonth: number): number {
  const reference = days(0, REFERENCE_DAYS, 600)
  const times = reference.map(({ hour }) => BigInt(hour) * HOUR_MICROS)
  const baseline = baselineOf(
    create(ModelVersionSchema, {
      features: names.map((feature, column) => {
        return { feature, type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: 'x', column }
      }),
      referenceDistributions: names.map((name, feature) => {
        const values = reference.map((row) => row.values[feature])
        return distribution(name, ReferenceKind.FEATURE, numericReference(values, times))
      }),
    }),
  )
  const firstHour = REFERENCE_DAYS * 24
  const panes = [...Map.groupBy(days(firstHour, LIVE_DAYS, 1000), ({ hour }) => hour)].map(([hour, rows]): Pane => {
    const counts = emptyCounts(baseline.cellCount)
    for (const { values } of rows) {
      const featureStatuses = names.map(() => FeatureStatus.PRESENT)
      const prediction = create(PredictionLoggedSchema, { doubles: [...values], featureStatuses })
      baseline.eachCell(prediction, (cell) => {
        counts[cell] = (counts[cell] ?? 0) + 1
      })
    }
    return { hour, samplingRate: 1, rows: rows.length, counts }
  })
  const policy = { ...readPolicy(completePolicy(undefined)), falseIncidentsPerMonth, minimumEffect: 0 }
  let incidents = 0
  let lastAlarm = Number.NEGATIVE_INFINITY
  for (let endHour = firstHour + 24; endHour <= firstHour + LIVE_DAYS * 24; endHour += policy.lookHours) {
    const [found] = assess({ versions: [{ baseline, panes }], firstHour, endHour, revision: 0, policy })
    if (!found?.verdicts.some(({ state }) => state === VerdictState.DRIFT)) continue
    if (endHour - lastAlarm > policy.windowHours) incidents += 1
    lastAlarm = endHour
  }
  return incidents
}

test('over months without drift, false incidents stay within the budget, with no minimum effect to help', () => {
  const budget = 12
  const months = Array.from({ length: 4 }, () => falseIncidents(budget))
  const mean = months.reduce((sum, count) => sum + count, 0) / months.length
  expect(mean).toBeLessThanOrEqual(budget)
  expect(mean).toBeGreaterThan(budget / 20)
})
