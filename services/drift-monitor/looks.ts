/**
 * When a window is looked at. Time here is event time only: a month replayed in a minute is judged at the same moments
 * as a month that takes a month.
 *
 * 1. The watermark of a partition is the last hour at or after which several of its rows lie, so that one row with a
 *    wrong clock moves nothing. The watermark of an endpoint is the earliest of its partitions: after a pause the bus
 *    hands out one partition's backlog before the next one's, and half the rows of an hour are not that hour.
 * 2. A partition is no longer waited for when it is a day behind and had nothing in the last batches.
 * 3. A look is due when the watermark is a grace beyond the window's end. Rows that come later amend it; it is judged
 *    again only when no partition is behind it, for the same reason.
 */

/** Rows of one partition in one hour. */
export interface Arrivals {
  readonly partition: number
  readonly hour: number
  readonly rows: number
  /** Number of the last batch that brought some of them. */
  readonly batch: number
}

/** Rows of a partition that must lie at or after an hour before it counts as reached. */
const ROWS_AHEAD_MIN = 3
/** How far behind the newest partition, and for how many batches without a row, one may be before it counts as silent. */
const SILENT_HOURS = 24
const SILENT_BATCHES = 16
/** How long after the end of a window rows are waited for before it is looked at. */
const GRACE_HOURS = 1
/** Looks that one batch may cause; after a jump in time the ones before are skipped, their windows being empty. */
const LOOKS_MAX = 64

/** Event time, in hours since the epoch, up to which an endpoint has been counted; undefined before the first rows. */
export function watermarkHour(arrivals: readonly Arrivals[]): number | undefined {
  const partitions = Map.groupBy(arrivals, ({ partition }) => partition).values()
  const reached = [...partitions].flatMap((own) => {
    const hour = reachedHour(own)
    return hour === undefined ? [] : [{ hour, batch: Math.max(...own.map(({ batch }) => batch)) }]
  })
  const newestHour = Math.max(...reached.map(({ hour }) => hour))
  const newestBatch = Math.max(...reached.map(({ batch }) => batch))
  const awake = reached.filter(
    ({ hour, batch }) => hour > newestHour - SILENT_HOURS || batch > newestBatch - SILENT_BATCHES,
  )
  return awake.length === 0 ? undefined : Math.min(...awake.map(({ hour }) => hour))
}

/** Whether a window that ends at an hour has been counted by all partitions that are waited for. */
export function isReached(endHour: number, watermark: number): boolean {
  return watermark - GRACE_HOURS >= endHour
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
