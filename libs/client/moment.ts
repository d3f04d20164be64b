/** Times as people write and read them. */
import { type Timestamp, timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt'
import { UsageError } from './command.ts'

/** A time to the second, such as `2001-05-14 09:30:00Z`; empty when there is none. */
export function momentText(time: Timestamp | undefined): string {
  return time === undefined ? '' : `${timestampDate(time).toISOString().slice(0, 19).replace('T', ' ')}Z`
}

/** Reads a time such as `2001-05-14`, `2001-05-14T09:30Z`, or `-90m` for that long ago. */
export function parseMoment(name: string, text: string, now: Date): Timestamp {
  const ago = /^-(\d+)(s|m|h|d)$/.exec(text)
  const secondsOf: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }
  if (ago !== null) {
    return timestampFromDate(new Date(now.getTime() - Number(ago[1]) * (secondsOf[ago[2] ?? ''] ?? 0) * 1000))
  }
  const time = new Date(
    /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?$/.test(text) ? text : Number.NaN,
  )
  if (Number.isNaN(time.getTime())) {
    throw new UsageError(`${name} ${text}: must be a time such as 2001-05-14T09:30Z, or -90m for 90 minutes ago`)
  }
  return timestampFromDate(time)
}
