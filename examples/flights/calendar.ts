/** The days of the story. Times are microseconds since the epoch. */

/** Microseconds in a day. */
export const dayMicros = 86_400_000_000n

const trainingDays = 49n
const heldOutDays = 7n

/** Days of traffic before the unit changes. */
export const cleanDays = 14n

/** Days before the training weeks for which features are published: the slowest view is renewed every 7 days. */
export const warmUpDays = 8n

/** Where the training weeks start, and where the held-out week after them starts and ends. */
export interface TrainingPeriod {
  readonly fromMicros: bigint
  readonly heldOutFromMicros: bigint
  readonly toMicros: bigint
}

/** The days of the story. */
export interface Calendar {
  readonly training: TrainingPeriod
  readonly replayFromMicros: bigint
  readonly faultMicros: bigint
}

/** The days that follow from the first of the training weeks, `YYYY-MM-DD`. */
export function calendarOf(firstDay: string): Calendar {
  const fromMicros = BigInt(Date.parse(`${firstDay}T00:00:00Z`)) * 1000n
  const replayFromMicros = fromMicros + (trainingDays + heldOutDays) * dayMicros
  const faultMicros = replayFromMicros + cleanDays * dayMicros
  return { training: periodBefore(replayFromMicros), replayFromMicros, faultMicros }
}

/** The weeks of a training that ends at a time. */
export function periodBefore(toMicros: bigint): TrainingPeriod {
  const heldOutFromMicros = toMicros - heldOutDays * dayMicros
  return { fromMicros: heldOutFromMicros - trainingDays * dayMicros, heldOutFromMicros, toMicros }
}
