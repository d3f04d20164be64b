/** Random histories of entities, and questions about them, for tests that hold two ways to the same answer. */
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import fc from 'fast-check'
import { packValues } from '../packing.ts'
import type { CheckedRow } from '../row-check.ts'
import type { Visibility } from '../rule.ts'
import * as rule from '../rule.ts'
import type { FeatureValue } from '../values.ts'
import type { ViewVersion } from '../view.ts'

/** One way to write and ask: rows in the order in which they come, a few moments to ask about. */
export interface Case {
  readonly ttlMicros: bigint | undefined
  readonly rows: readonly CaseRow[]
  readonly times: readonly bigint[]
}

/** One row of a case's only entity. */
export interface CaseRow {
  readonly eventMicros: bigint
  readonly createdMicros: bigint
  readonly sequence: bigint
  readonly deleted: boolean
  readonly values: readonly FeatureValue[]
}

/** What is answered of one feature at one time. */
export interface Answer {
  readonly status: string
  readonly value: FeatureValue
  /** Undefined where there is no row. */
  readonly eventMicros: bigint | undefined
}

/** The moments are few, so that equal times, bounds and corrections are common. */
const moment = fc.integer({ min: -6, max: 12 }).map(BigInt)

const row: fc.Arbitrary<CaseRow> = fc
  .record({
    eventMicros: moment,
    lateness: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: -3, max: 9 })),
    sequence: fc.integer({ min: -1, max: 2 }).map(BigInt),
    deleted: fc.oneof({ weight: 6, arbitrary: fc.constant(false) }, fc.constant(true)),
    whole: fc.option(fc.integer({ min: 0, max: 99 }).map(BigInt), { freq: 4 }),
    real: fc.option(fc.constantFrom(0, -0, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 1e300, -5e-324), { freq: 4 }),
  })
  .map(({ eventMicros, lateness, sequence, deleted, whole, real }) => ({
    eventMicros,
    createdMicros: eventMicros + BigInt(lateness),
    sequence,
    deleted,
    values: deleted ? [] : [whole, real],
  }))

/** Cases of one entity each. */
export const anyCase: fc.Arbitrary<Case> = fc.record({
  ttlMicros: fc.option(fc.integer({ min: 1, max: 5 }).map(BigInt), { nil: undefined }),
  rows: fc.array(row, { maxLength: 8 }),
  times: fc.array(moment, { minLength: 1, maxLength: 4 }),
})

/** The view of all cases with one ttl. */
export function viewOf(tableId: number, ttlMicros: bigint | undefined): ViewVersion {
  return {
    tableId,
    id: `view_${tableId}`,
    digest: '',
    keys: [{ name: 'entity', type: ValueType.INT64 }],
    features: [
      { name: 'whole', type: ValueType.INT64 },
      { name: 'real', type: ValueType.DOUBLE },
    ],
    ttlMicros,
  }
}

/** A row of a case as a store takes it. */
export function checkedRow(entity: bigint, { values, ...row }: CaseRow): CheckedRow {
  return { ...row, key: packValues([entity]), payload: packValues(values) }
}

const statusNames: Readonly<Record<rule.Status, string>> = {
  present: 'PRESENT',
  null: 'NULL_VALUE',
  'not-found': 'NOT_FOUND',
  'outside-max-age': 'OUTSIDE_MAX_AGE',
}

/** What the rule itself answers: each case's times in order, each with both features. */
export function ruleAnswers(
  cases: readonly Case[],
  visibility: Visibility,
  { rowAt, statusOf }: Pick<typeof rule, 'rowAt' | 'statusOf'> = rule,
): Answer[] {
  return cases.flatMap(({ rows, times, ttlMicros }) =>
    times.flatMap((timeMicros) => {
      const winner = rowAt(rows, timeMicros, visibility)
      return [0, 1].map((place) => {
        const value = winner?.values[place] ?? null
        const status = statusNames[statusOf(winner, value === null, timeMicros, ttlMicros)]
        const eventMicros = status === 'NOT_FOUND' ? undefined : winner?.eventMicros
        return { status, value: status === 'PRESENT' ? value : null, eventMicros }
      })
    }),
  )
}

/** Text by which two answers are the same; tells NaN from null. 0 and -0 are one value. */
export function textOf({ status, value, eventMicros }: Answer): string {
  return `${status} ${value} @${eventMicros}`
}

/** Both ways to see. */
export const visibilities: readonly Visibility[] = ['known', 'event']
