/**
 * The point-in-time join as SQL statements: the rule of `rule.ts` over Parquet parts.
 *
 * A row can be seen from `a` on: the later of its event and created time where knowledge counts, its event time
 * otherwise. Rows are numbered in the order of the rule. Over the rows of an entity in the order of `a` the winner is the
 * running maximum of that number, and it changes only at some `a`. So each view is reduced to its changes of winner, and
 * one ASOF join with one inequality finds the winner at any T: linear in rows and spine, exact for late and corrected
 * rows. The ttl is judged afterwards, since an older winner cannot be fresher.
 */
import { join } from 'node:path'
import type { ViewVersion } from '../view.ts'
import { literal, quoted, sqlTypes } from './columns.ts'
import type { JoinTask } from './offline-store.ts'

/** A statement and the share of the work that is done after it, 0 to 1. */
export interface Step {
  readonly sql: string
  readonly done: number
  readonly stage: string
}

/** The column that numbers the spine's rows. */
const rowNumber = '__row'
/** The column with the spine's times, microseconds since the epoch. */
const spineTime = '__time'

/** Names that a spine cannot have. */
export const reservedColumns: readonly string[] = [rowNumber, spineTime, 'file_row_number']

/** All statements of a join, the last of which writes the output; `time` is the spine's time in microseconds, as SQL. */
export function joinSteps(task: JoinTask, time: string): Step[] {
  const { views } = task
  const share = (index: number) => 0.1 + (0.7 * (index + 1)) / Math.max(views.length, 1)
  return [
    { sql: spineTable(task, time), done: 0.1, stage: 'reading the spine' },
    ...views.flatMap((view, index) =>
      viewStatements(task, view, index).map((sql) => ({ sql, done: share(index) - 0.01, stage: `joining ${view.id}` })),
    ),
    // One thread writes the row groups in the order of the rows, so that the same rows give the same bytes.
    { sql: 'set threads = 1', done: 0.81, stage: 'writing' },
    { sql: output(task, views), done: 1, stage: 'writing' },
  ]
}

function spineTable(task: JoinTask, time: string): string {
  return `create or replace temp table spine as
    select file_row_number as ${rowNumber}, ${time} as ${spineTime}, * exclude (file_row_number)
    from read_parquet(${literal(task.spinePath)}, file_row_number = true)`
}

function viewStatements(task: JoinTask, view: ViewVersion, index: number): string[] {
  const keys = view.keys.map((_, place) => `k${place}`)
  const keyList = keys.join(', ')
  const visible = task.visibility === 'known' ? 'greatest(event, created)' : 'event'
  const sameKeys = view.keys.map(({ name, type }, place) => `s.${quoted(name)}::${sqlTypes[type]} = c.k${place}`)
  return [
    `create or replace temp table rows_${index} as
      select row_number() over (order by event, created, sequence) as r, * from (${partsOf(task, view)})
      where created < ${task.createdBeforeMicros} and revision <= ${task.revision}`,
    `create or replace temp table changes_${index} as
      select distinct ${keyList}, a, max(r) over (partition by ${keyList} order by a) as r
      from (select *, ${visible} as a from rows_${index})`,
    `create or replace temp table winners_${index} as
      select found.${rowNumber}, winner.r, winner.event,
        case when winner.r is null or winner.deleted then 'NOT_FOUND'
          ${view.ttlMicros === undefined ? '' : `when found.${spineTime} - winner.event > ${view.ttlMicros} then 'OUTSIDE_MAX_AGE'`}
          else 'PRESENT' end as status
      from (select s.${rowNumber}, s.${spineTime}, c.r
        from spine s asof left join changes_${index} c on ${sameKeys.join(' and ')} and s.${spineTime} >= c.a) found
      left join rows_${index} winner on winner.r = found.r`,
    `drop table changes_${index}`,
  ]
}

/** The rows of a view's parts. A part that is older than a feature has no column of it: there the feature is null. */
function partsOf(task: JoinTask, view: ViewVersion): string {
  const columns = [
    ...view.keys.map(({ type }, place) => `null::${sqlTypes[type]} as k${place}`),
    ...['event', 'created', 'sequence', 'revision'].map((name) => `null::bigint as ${name}`),
    'null::boolean as deleted',
    ...view.features.map(({ type }, place) => `null::${sqlTypes[type]} as f${place}`),
  ]
  const none = `select ${columns.join(', ')} where false`
  const paths = task.parts
    .filter(({ tableId }) => tableId === view.tableId)
    .map(({ path }) => literal(join(task.partsDirectory, path)))
  if (paths.length === 0) return none
  return `${none} union all by name select * from read_parquet([${paths.join(', ')}], union_by_name = true)`
}

function output(task: JoinTask, views: readonly ViewVersion[]): string {
  const place = new Map(views.map((view, index) => [view.tableId, index]))
  const columns = task.columns.flatMap(({ tableId, index, name }) => {
    const at = place.get(tableId)
    const value = `rows_${at}.f${index}`
    const status = `winners_${at}.status`
    const time = `case when ${status} <> 'NOT_FOUND' then make_timestamp(winners_${at}.event) end`
    return [
      `case when ${status} = 'PRESENT' then ${value} end as ${quoted(name)}`,
      `case when ${status} = 'PRESENT' and ${value} is null then 'NULL_VALUE' else ${status} end as ${quoted(`${name}__status`)}`,
      ...(task.includeTimes ? [`${time} as ${quoted(`${name}__event_time`)}`] : []),
    ]
  })
  const joins = views.map(
    (_, index) =>
      `join winners_${index} on winners_${index}.${rowNumber} = spine.${rowNumber}
       left join rows_${index} on rows_${index}.r = winners_${index}.r`,
  )
  return `copy (
    select spine.* exclude (${rowNumber}, ${spineTime})${columns.map((column) => `, ${column}`).join('')}
    from spine ${joins.join(' ')} order by spine.${rowNumber}
  ) to ${literal(task.outputPath)} (format parquet, compression zstd)`
}
