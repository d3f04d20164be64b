/**
 * When a window is looked at. Time here is event time only: a month replayed in a minute is judged at the same moments
 * as a month that takes a month.
 *
 * 1. The watermark of a partition is the last hour at or after which several of its rows lie, so that one row with a
 *    wrong clock moves nothing. The watermark of an endpoint is the earliest of its partitions, but a partition that has
 *    fallen silent is not waited for.
 * 2. It follows from counts of rows by partition and hour alone, so it does not depend on the order of arrival.
 * 3. A look is due when the watermark is a grace beyond the window's end; rows that come later still amend it.
 */

/** Rows of one partition in one hour. */
export interface Arrivals {
  readonly partition: number
  readonly hour: number
  readonly rows: number
}

/** Rows of a partition that must lie at or after an hour before it counts as reached. */
const ROWS_AHEAD_MIN = 3
/** How far behind the newest partition one may be before it counts as silent. */
const SILENT_HOURS = 24
/** How long after the end of a window rows are waited for before it is looked at. */
const GRACE_HOURS = 1
/** Looks that one batch may cause; after a jump in time the ones before are skipped, their windows being empty. */
const LOOKS_MAX = 64

/** Event time, in hours since the epoch, up to which an endpoint has been counted; undefined before the first rows. */
export function watermarkHour(arrivals: readonly Arrivals[]): number | undefined {
  const partitions = Map.groupBy(arrivals, ({ partition }) => partition)
  const reached = [...partitions.values()].map(reachedHour).filter((hour) => hour !== undefined)
  const newest = Math.max(...reached)
  const awake = reached.filter((hour) => hour > newest - SILENT_HOURS)
  return awake.length === 0 ? undefined : Math.min(...awake)
}

/** Ends of the windows that are due, oldest first. `after` is the end of the last one looked at. */
export function dueLooks(
  after: number | undefined,
  watermark: number | undefined,
  firstHour: number,
  lookHours: number,
): number[] {
  if (watermark === undefined) return []
  const last = Math.floor((watermark - GRACE_HOURS) / lookHours) * lookHours
  const next = after === undefined ? Math.ceil((firstHour + 1) / lookHours) * lookHours : after + lookHours
  const first = Math.max(next, last - (LOOKS_MAX - 1) * lookHours)
  const looks: number[] = []
  for (let end = first; end <= last; end += lookHours) looks.push(end)
  return looks
}

function reachedHour(arrivals: readonly Arrivals[]): number | undefined {
  let ahead = 0
  for (const { hour, rows } of arrivals.toSorted((a, b) => b.hour - a.hour)) {
    ahead += rows
    if (ahead >= ROWS_AHEAD_MIN) return hour
  }
  return undefined
}
