/** What a look at one column finds: a pure function of counts, calibration and policy. */
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { type Verdict, VerdictSchema, VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import {
  detectableEffect,
  effectInterval,
  gammaSf,
  gammaUpperQuantile,
  type TwoSampleResult,
  twoSampleLikelihoodRatio,
} from '@slipway/stats'
import { CALIBRATION_WINDOWS_MIN, nullTail } from './calibration.ts'
import { type Aspect, type Column, calibrationOf, referencePeriod } from './column.ts'
import type { Policy } from './policy.ts'
import { timestampOfHour } from './time.ts'
import type { WindowCounts } from './window.ts'

/** Share of the endpoint's traffic that a version may have missed in a window that is judged all the same. */
const UNCOVERED_MAX = 0.02

/** What a look is about. */
export interface Look {
  readonly startHour: number
  readonly endHour: number
  /** Amendments of this window so far. */
  readonly revision: number
  /** The endpoint has been counted since the window began. */
  readonly complete: boolean
}

/** Judges one column of one version. `window` holds the counts of all its cells. */
export function judge(column: Column, window: WindowCounts, look: Look, policy: Policy, pThreshold: number): Verdict {
  const cut = (counts: readonly number[]) => counts.slice(column.firstCell, column.firstCell + column.cellCount)
  const current = cut(window.weighted)
  const whole = twoSampleLikelihoodRatio(current, column.reference)
  const interval = effectInterval(whole)
  const tests = [column.values, column.presence].map((aspect) =>
    test(column, aspect, current, look, policy, pThreshold),
  )
  const [first, ...others] = tests
  const decisive = others.reduce((best, each) => (each.alarmRatio > best.alarmRatio ? each : best), first ?? nothing)
  const pValue = Math.min(1, 2 * Math.min(...tests.map((each) => each.pValue)))
  const missing = whyInsufficient(window, look, policy)
  const drifts = pValue < pThreshold && interval.low > policy.minimumEffect
  return create(VerdictSchema, {
    name: column.name,
    kind: column.kind,
    state:
      missing !== '' ? VerdictState.INSUFFICIENT_DATA : drifts ? VerdictState.DRIFT : VerdictState.NO_MATERIAL_DRIFT,
    effect: whole.effect,
    effectLow: interval.low,
    effectHigh: interval.high,
    statistic: decisive.result.statistic,
    pValue,
    pThreshold,
    sampleSize: BigInt(window.rows),
    referenceSize: BigInt(column.reference.reduce((sum, count) => sum + count, 0)),
    effectiveSize: whole.effectiveSize,
    minimumDetectableEffect: Math.max(policy.minimumEffect, decisive.detectableEffect),
    overdispersion: decisive.overdispersion,
    calibrationWindows: decisive.calibrationWindows,
    alarmRatio: decisive.alarmRatio,
    reason: missing !== '' ? missing : decisive.calibrationWindows === 0 ? uncalibrated : '',
    windowStart: timestampOfHour(look.startHour),
    windowEnd: timestampOfHour(look.endHour),
    revision: look.revision,
  } satisfies MessageInitShape<typeof VerdictSchema>)
}

const uncalibrated = `the reference has fewer than ${CALIBRATION_WINDOWS_MIN} windows of this length: rows are taken for independent`

interface AspectResult {
  readonly result: TwoSampleResult
  readonly pValue: number
  readonly alarmRatio: number
  readonly detectableEffect: number
  readonly overdispersion: number
  readonly calibrationWindows: number
}

const nothing: AspectResult = {
  result: { statistic: 0, degreesOfFreedom: 0, pValue: 1, effectiveSize: 0, effect: 0 },
  pValue: 1,
  alarmRatio: 0,
  detectableEffect: 1,
  overdispersion: 1,
  calibrationWindows: 0,
}

function test(
  column: Column,
  aspect: Aspect,
  current: readonly number[],
  look: Look,
  policy: Policy,
  pThreshold: number,
): AspectResult {
  const calibration = calibrationOf(column, aspect, policy.windowHours)
  const calibrationWindows = calibration?.windows ?? 0
  const result = twoSampleLikelihoodRatio(aspect.project(current), aspect.project(column.reference))
  if (result.degreesOfFreedom === 0) return { ...nothing, calibrationWindows }
  const period = referencePeriod(column)
  const age = ((look.startHour + look.endHour) / 2 - period.endHour) / period.hours
  const { shape, scale } = nullTail(calibration, result.degreesOfFreedom, result.effectiveSize, age)
  // Each of the two aspects gets half of what the column may spend.
  const critical = gammaUpperQuantile(pThreshold / 2, shape, scale)
  return {
    result,
    pValue: gammaSf(result.statistic, shape, scale),
    alarmRatio: result.statistic / critical,
    detectableEffect: detectableEffect(critical, result.degreesOfFreedom, result.effectiveSize),
    overdispersion: (shape * scale) / result.degreesOfFreedom,
    calibrationWindows,
  }
}

function whyInsufficient(window: WindowCounts, look: Look, policy: Policy): string {
  if (!look.complete) return 'the endpoint has been watched for less than a window'
  if (window.uncovered > UNCOVERED_MAX)
    return `the version answered next to nothing in hours with ${Math.round(window.uncovered * 100)} % of the traffic`
  if (window.effectiveRows < policy.minimumRows)
    return `${window.rows} rows, worth ${Math.floor(window.effectiveRows)}; ${policy.minimumRows} are needed`
  return ''
}
