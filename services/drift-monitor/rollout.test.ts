import { create } from '@bufbuild/protobuf'
import { VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import { FeatureStatus, PredictionLoggedSchema } from '@slipway/proto/slipway/events/v1/prediction'
import { FeatureSource, FeatureType, ModelVersionSchema, ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { createRandom, emptyCounts, numericReference } from '@slipway/stats'
import { describe, expect, test } from 'vitest'
import { assess, type VersionPanes } from './assess.ts'
import { type Baseline, baselineOf } from './baseline.ts'
import { completePolicy, readPolicy } from './policy.ts'
import { distribution, liveStartMicros } from './synthetic.fixture.ts'
import { HOUR_MICROS, hourOf } from './time.ts'
import type { Pane } from './window.ts'

const ROWS_PER_DAY = 1500
const firstHour = hourOf(liveStartMicros)
const policy = readPolicy(completePolicy(undefined))
const random = createRandom('rollout')

/** Hours of day of a day's rows: most fly by day. */
function hoursOfDay(): number[] {
  return Array.from({ length: ROWS_PER_DAY }, () => 24 * ((random.uniform() + random.uniform() + random.uniform()) / 3))
}

function baseline(digest: string): Baseline {
  const days = Array.from({ length: 40 }, (_, day) =>
    hoursOfDay().map((hour) => ({ hour, day: liveStartMicros - BigInt(day + 1) * 24n * HOUR_MICROS })),
  ).flat()
  const times = days.map(({ hour, day }) => day + BigInt(Math.floor(hour * Number(HOUR_MICROS))))
  const counted = numericReference(
    days.map(({ hour }) => hour),
    times,
  )
  return baselineOf(
    create(ModelVersionSchema, {
      name: `models/m/versions/${digest}`,
      digest,
      features: [{ feature: 'hour', type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: 'x', column: 0 }],
      referenceDistributions: [distribution('hour', ReferenceKind.FEATURE, counted)],
    }),
  )
}

/** Four days of traffic: the new version gets 5 % from noon of the second day, all from noon of the third. */
function rollout(): [VersionPanes, VersionPanes] {
  const versions = [baseline('1'), baseline('2')] as const
  const panes: [Map<number, Pane>, Map<number, Pane>] = [new Map(), new Map()]
  for (let day = 0; day < 4; day++) {
    for (const hour of hoursOfDay()) {
      const at = day * 24 + hour
      const share = at < 36 ? 0 : at < 60 ? 0.05 : 1
      const chosen = random.uniform() < share ? 1 : 0
      const key = firstHour + Math.floor(at)
      const pane = panes[chosen].get(key) ?? {
        hour: key,
        samplingRate: 1,
        rows: 0,
        counts: emptyCounts(versions[chosen].cellCount),
      }
      const counts = [...pane.counts]
      const prediction = create(PredictionLoggedSchema, { featureStatuses: [FeatureStatus.PRESENT], doubles: [hour] })
      versions[chosen].eachCell(prediction, (cell) => {
        counts[cell] = (counts[cell] ?? 0) + 1
      })
      panes[chosen].set(key, { ...pane, rows: pane.rows + 1, counts })
    }
  }
  return [
    { baseline: versions[0], panes: [...panes[0].values()] },
    { baseline: versions[1], panes: [...panes[1].values()] },
  ]
}

/** States of the hour's verdicts of one version at every look, in order. */
function statesOf(versions: readonly VersionPanes[], digest: string): VerdictState[] {
  return Array.from({ length: 4 * 8 }, (_, look) => {
    const found = assess({ versions, firstHour, endHour: firstHour + (look + 1) * 3, revision: 0, policy })
    return found.find((each) => each.baseline.digest === digest)?.verdicts[0]?.state ?? VerdictState.UNSPECIFIED
  })
}

describe('during a rollout', () => {
  const versions = rollout()

  test('hour of day does not seem to drift though the rows of a version crowd in the hours after each step', () => {
    for (const digest of ['1', '2']) expect(statesOf(versions, digest)).not.toContain(VerdictState.DRIFT)
    const steps = statesOf(versions, '1')
    expect(steps.slice(7, 20)).toEqual(new Array(13).fill(VerdictState.NO_MATERIAL_DRIFT))
    expect(statesOf(versions, '2').at(-1)).toBe(VerdictState.NO_MATERIAL_DRIFT)
  })

  test('without the weights it would: the same rows, taken for all the traffic, alarm', () => {
    expect(statesOf([versions[1]], '2')).toContain(VerdictState.DRIFT)
  })

  test('a version is said to answer no more once its share went elsewhere', () => {
    const at = (hours: number) =>
      assess({ versions, firstHour, endHour: firstHour + hours, revision: 0, policy }).find(
        ({ baseline }) => baseline.digest === '1',
      )?.answering
    expect([at(36), at(48), at(63)]).toEqual([true, true, false])
  })
})
