/** Feature rows as they come, held against their view: each is judged by itself. */
import type { FeatureRow } from '@slipway/proto/slipway/features/v1/value'
import { microsFromTimestamp } from '@slipway/resources'
import { packValues } from './packing.ts'
import { isValidTimestamp } from './time.ts'
import { checkKey, checkValue, type FeatureValue, type ValueProblem } from './values.ts'
import type { ViewVersion } from './view.ts'

/** A row that fits its view. */
export interface CheckedRow {
  readonly key: Uint8Array
  readonly eventMicros: bigint
  /** Undefined: the producer did not say, so it is the time of arrival. */
  readonly createdMicros: bigint | undefined
  /** Undefined: the order of arrival. */
  readonly sequence: bigint | undefined
  readonly deleted: boolean
  /** The packed values; empty when deleted. */
  readonly payload: Uint8Array
}

/** Why a row does not fit. */
export interface RowProblem {
  /** Path inside the row, for example `values.age`. */
  readonly field: string
  readonly code: ValueProblem['code'] | 'REQUIRED' | 'UNKNOWN_NAME' | 'CREATED_IN_FUTURE' | 'UNKNOWN_VIEW' | 'CONFLICT'
  readonly description: string
}

/** The row, or why it does not fit. */
export type CheckedOrProblem = { readonly row: CheckedRow } | { readonly problem: RowProblem }

/** A row may have been created so much later than this machine's clock says, in microseconds. */
export const maxClockSkewMicros = 5n * 60n * 1_000_000n

const nothing = new Uint8Array()

/** Checks keys, times and values of a row against its view. */
export function checkRow(view: ViewVersion, message: FeatureRow, nowMicros: bigint): CheckedOrProblem {
  const { eventTime, createdTime } = message
  if (eventTime === undefined) return refuse('event_time', 'REQUIRED', 'a row needs an event time')
  if (!isValidTimestamp(eventTime)) return refuse('event_time', 'OUT_OF_RANGE', 'lies in the years 1 to 9999')
  if (createdTime !== undefined && !isValidTimestamp(createdTime))
    return refuse('created_time', 'OUT_OF_RANGE', 'lies in the years 1 to 9999')
  const createdMicros = createdTime && microsFromTimestamp(createdTime)
  if (createdMicros !== undefined && createdMicros > nowMicros + maxClockSkewMicros)
    return refuse('created_time', 'CREATED_IN_FUTURE', 'a row cannot have become known in the future')
  const key = readColumns('entity_keys', view.keys, message.entityKeys, checkKey)
  if ('problem' in key) return key
  if (message.deleted) {
    for (const name in message.values)
      return refuse(`values.${name}`, 'WRONG_TYPE', 'a row that says the entity is deleted has no values')
  }
  const values = readColumns('values', view.features, message.values, checkValue)
  if ('problem' in values) return values
  return {
    row: {
      key: packValues(key.values),
      eventMicros: microsFromTimestamp(eventTime),
      createdMicros,
      sequence: message.sequence,
      deleted: message.deleted,
      payload: message.deleted ? nothing : packValues(values.values),
    },
  }
}

function readColumns(
  path: string,
  columns: ViewVersion['keys'],
  given: FeatureRow['values'],
  check: typeof checkValue,
): { readonly values: FeatureValue[] } | { readonly problem: RowProblem } {
  const values: FeatureValue[] = []
  let found = 0
  for (const { name, type } of columns) {
    const message = given[name]
    if (message !== undefined) found += 1
    const checked = check(message, type)
    if ('problem' in checked) return refuse(`${path}.${name}`, checked.problem.code, checked.problem.description)
    values.push(checked.value)
  }
  let names = 0
  for (const _ in given) names += 1
  if (found === names) return { values }
  const stray = Object.keys(given).find((name) => columns.every((column) => column.name !== name)) ?? ''
  return refuse(`${path}.${stray}`, 'UNKNOWN_NAME', `the view has ${columns.map(({ name }) => name).join(', ')}`)
}

function refuse(field: string, code: RowProblem['code'], description: string): { readonly problem: RowProblem } {
  return { problem: { field, code, description } }
}
