/** The rules by which a monitor judges, with every default filled in. */
import { create } from '@bufbuild/protobuf'
import { type MonitorPolicy, MonitorPolicySchema } from '@slipway/proto/slipway/drift/v1/monitor'
import { Failure } from '@slipway/rpc'
import { durationOfHours, HOUR_MICROS, microsOfDuration } from './time.ts'

/** A policy as plain numbers. */
export interface Policy {
  readonly windowHours: number
  readonly lookHours: number
  readonly falseIncidentsPerMonth: number
  readonly minimumEffect: number
  readonly minimumRows: number
  readonly ignored: ReadonlySet<string>
  readonly requestTraining: boolean
}

/** Looks a month for which the budget of false incidents is meant. */
const MONTH_HOURS = 30 * 24

/** Fills in the defaults; INVALID_ARGUMENT when lengths are not whole hours or do not fit together. */
export function completePolicy(policy: MonitorPolicy | undefined): MonitorPolicy {
  const complete = create(MonitorPolicySchema, {
    window: policy?.window ?? durationOfHours(24),
    lookInterval: policy?.lookInterval ?? durationOfHours(3),
    falseIncidentsPerMonth: policy?.falseIncidentsPerMonth ?? 0.1,
    minimumEffect: policy?.minimumEffect ?? 0.1,
    minimumRows: policy?.minimumRows ?? 200n,
    ignored: policy?.ignored ?? [],
    requestTraining: policy?.requestTraining ?? true,
  })
  const { windowHours, lookHours } = readPolicy(complete)
  if (!Number.isInteger(windowHours)) throw Failure.invalid('monitor.policy.window', 'must be whole hours')
  if (!Number.isInteger(lookHours)) throw Failure.invalid('monitor.policy.look_interval', 'must be whole hours')
  if (windowHours % lookHours !== 0)
    throw Failure.invalid('monitor.policy.look_interval', `must divide the window of ${windowHours} h without a rest`)
  return complete
}

/** A complete policy as plain numbers. */
export function readPolicy(policy: MonitorPolicy): Policy {
  return {
    windowHours: Number(microsOfDuration(policy.window)) / Number(HOUR_MICROS),
    lookHours: Number(microsOfDuration(policy.lookInterval)) / Number(HOUR_MICROS),
    falseIncidentsPerMonth: policy.falseIncidentsPerMonth ?? 0.1,
    minimumEffect: policy.minimumEffect ?? 0.1,
    minimumRows: Number(policy.minimumRows ?? 200n),
    ignored: new Set(policy.ignored),
    requestTraining: policy.requestTraining ?? true,
  }
}

/** The probability of a false alarm that the budget leaves for one column at one look. */
export function thresholdOf(policy: Policy, columnsJudged: number): number {
  const looks = MONTH_HOURS / policy.lookHours
  return Math.min(0.05, policy.falseIncidentsPerMonth / (looks * Math.max(1, columnsJudged)))
}
