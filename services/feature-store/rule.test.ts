import { randomInt } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Answer,
  anyCase,
  type Case,
  ruleAnswers,
  textOf,
  visibilities,
} from './offline-store/agreement.fixture.ts'
import { compareRows, isCandidate, type Row, rowAt, statusOf, type Visibility } from './rule.ts'
import { query } from './store.fixture.ts'

const row = (eventMicros: bigint, createdMicros = eventMicros, sequence = 0n, deleted = false): Row => {
  return { eventMicros, createdMicros, sequence, deleted }
}

test.each([
  ['a later event', row(2n, 0n, 0n), row(1n, 9n, 9n)],
  ['of the same event, what was created later', row(1n, 2n, 0n), row(1n, 1n, 9n)],
  ['of the same event and creation, the higher sequence', row(1n, 1n, 2n), row(1n, 1n, 1n)],
  ['a time before 1970 less far back', row(-1n), row(-2n)],
])('%s is newer', (_, newer, older) => {
  expect(compareRows(newer, older)).toBeGreaterThan(0)
  expect(compareRows(older, newer)).toBeLessThan(0)
  expect(compareRows(newer, { ...newer })).toBe(0)
})

test.each([
  ['known', row(10n, 10n), 10n, true],
  ['known', row(10n, 11n), 10n, false],
  ['event', row(10n, 11n), 10n, true],
  ['event', row(11n, 0n), 10n, false],
  ['known', row(11n, 0n), 10n, false],
] as const)('where %s counts, the row %o is a candidate at %s: %s', (visibility, candidate, time, is) => {
  expect(isCandidate(candidate, time, visibility)).toBe(is)
})

test.each([
  ['a fresh value', row(0n), false, 4n, 5n, 'present'],
  ['a value as old as the ttl', row(0n), false, 5n, 5n, 'present'],
  ['a value one microsecond older', row(0n), false, 6n, 5n, 'outside-max-age'],
  ['a value of any age without a ttl', row(0n), false, 10n ** 16n, undefined, 'present'],
  ['a null', row(0n), true, 5n, 5n, 'null'],
  ['a null that is too old', row(0n), true, 6n, 5n, 'outside-max-age'],
  ['no row', undefined, true, 5n, 5n, 'not-found'],
  ['a deleted entity', row(0n, 0n, 0n, true), true, 5n, 5n, 'not-found'],
  ['a deleted entity, however long ago', row(0n, 0n, 0n, true), true, 99n, 5n, 'not-found'],
] as const)('%s has its status', (_, winner, isNull, time, ttl, status) => {
  expect(statusOf(winner, isNull, time, ttl)).toBe(status)
})

test('without candidates there is no row', () => {
  expect(rowAt([], 0n, 'event')).toBeUndefined()
  expect(rowAt([row(1n)], 0n, 'event')).toBeUndefined()
})

describe('the rule', () => {
  const seed = Number(process.env.SLIPWAY_TEST_SEED ?? randomInt(2 ** 31))
  const cases = fc.sample(anyCase, { numRuns: 2000, seed })

  test(`is what SQL written by itself answers (seed ${seed})`, async () => {
    const sql = { known: rankedOracle, event: asofOracle }
    for (const visibility of visibilities) {
      expect(ruleAnswers(cases, visibility).map(textOf)).toEqual((await oracle(cases, sql[visibility])).map(textOf))
    }
  }, 60_000)

  test(`is not what any copy with another comparison answers (seed ${seed})`, async () => {
    const right = (visibility: Visibility) => ruleAnswers(cases, visibility).map(textOf).join('\n')
    const expected = visibilities.map(right)
    const found = await mutants()
    expect(found.length).toBeGreaterThanOrEqual(15)
    for (const { name, load } of found) {
      const mutant = await load()
      const answers = visibilities.map((visibility) => {
        try {
          return ruleAnswers(cases, visibility, mutant).map(textOf).join('\n')
        } catch {
          return 'fails'
        }
      })
      expect(answers, name).not.toEqual(expected)
    }
  })
})

/** What else may stand in the place of a comparison. Behind `!==`, `<` and `<=` are the same, so `<` has one only. */
const others: Readonly<Record<string, readonly string[]>> = {
  '<': ['>'],
  '<=': ['<', '>='],
  '>': ['>=', '<'],
  '===': ['!=='],
  '!==': ['==='],
}

/** Copies of the rule, each with one comparison changed. */
async function mutants() {
  const path = fileURLToPath(new URL('./rule.ts', import.meta.url))
  const source = stripTypeScriptTypes(readFileSync(path, 'utf8').replace(/\/\*\*[\s\S]*?\*\//g, ''))
  return [...source.matchAll(/ (<=?|>=?|[!=]==) /g)].flatMap(({ index, 1: operator = '' }) =>
    (others[operator] ?? []).map((other) => ({
      name: `${source.slice(source.lastIndexOf('\n', index), index).trim()} ${other} instead of ${operator}`,
      load: async () => {
        const directory = mkdtempSync(join(tmpdir(), 'slipway-mutant-'))
        const file = join(directory, 'rule.mjs')
        writeFileSync(file, `${source.slice(0, index)} ${other} ${source.slice(index + operator.length + 2)}`)
        try {
          return (await import(/* @vite-ignore */ pathToFileURL(file).href)) as typeof import('./rule.ts')
        } finally {
          rmSync(directory, { recursive: true })
        }
      },
    })),
  )
}

/** By event time alone: of each event time the last row, then the nearest one before T. */
const asofOracle = `
  with newest as (
    from given qualify row_number() over (partition by entity, event order by created desc, sequence desc, place) = 1)
  select asked.*, newest.event, newest.deleted, newest.whole, newest.real
  from asked asof left join newest on asked.entity = newest.entity and asked.t >= newest.event`

/** By knowledge: all rows that are true and known at T, ranked. */
const rankedOracle = `
  select asked.*, given.event, given.deleted, given.whole, given.real
  from asked left join given on asked.entity = given.entity and given.event <= asked.t and given.created <= asked.t
  qualify row_number() over (
    partition by asked.question
    order by given.event desc nulls last, given.created desc, given.sequence desc, given.place) = 1`

async function oracle(cases: readonly Case[], sql: string): Promise<Answer[]> {
  const real = (value: unknown) => (value === null || value === undefined ? 'null' : `'${value}'::double`)
  const given = cases.flatMap(({ rows }, entity) =>
    rows.map(
      ({ eventMicros, createdMicros, sequence, deleted, values }, place) =>
        `(${entity}, ${place}, ${eventMicros}, ${createdMicros}, ${sequence}, ${deleted}, ${values[0] ?? null}, ${real(values[1])})`,
    ),
  )
  const asked = cases.flatMap(({ times, ttlMicros }, entity) =>
    times.map((time) => `(${entity}, ${time}, ${ttlMicros ?? null})`),
  )
  const tables = `
    with given as (from (values ${given.join(', ')}) v(entity, place, event, created, sequence, deleted, whole, real)),
    asked as (select row_number() over () as question, * from (values ${asked.join(', ')}) v(entity, t, ttl)),
    won as (${sql})`
  const status = (column: string) => `case when event is null or deleted then 'NOT_FOUND'
    when ttl is not null and event < t - ttl then 'OUTSIDE_MAX_AGE'
    when ${column} is null then 'NULL_VALUE' else 'PRESENT' end as ${column}_status`
  const rows = await query(`${tables}
    select event::bigint as event, whole::bigint as whole, real, ${status('whole')}, ${status('real')}
    from won order by question`)
  return rows.flatMap((row) =>
    ['whole', 'real'].map((name) => {
      const status = String(row[`${name}_status`])
      const value = status === 'PRESENT' ? (row[name] as bigint | number) : null
      return { status, value, eventMicros: status === 'NOT_FOUND' ? undefined : (row.event as bigint) }
    }),
  )
}
