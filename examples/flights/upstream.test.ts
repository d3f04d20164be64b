import { afterAll, beforeAll, expect, test } from 'vitest'
import { openUpstream, type Upstream } from './upstream.ts'

const day = (date: string) => BigInt(Date.parse(`${date}T00:00:00Z`)) * 1000n
let upstream: Upstream

beforeAll(async () => {
  upstream = await openUpstream()
})
afterAll(() => upstream.close())

test('the same query gives the same flights, in order, as many a day as asked for', async () => {
  const query = { fromMicros: day('2001-03-01'), toMicros: day('2001-03-04'), perDay: 500, seed: 1 }
  const flights = await upstream.flights(query)
  expect(flights).toHaveLength(1500)
  expect(await upstream.flights(query)).toEqual(flights)
  expect((await upstream.flights({ ...query, seed: 2 })).map((flight) => flight.id)).not.toEqual(
    flights.map((flight) => flight.id),
  )
  expect(flights.every((flight, i) => i === 0 || flight.timeMicros >= (flights[i - 1]?.timeMicros ?? 0n))).toBe(true)
})

test('an outcome is known after the departure', async () => {
  const flights = await upstream.flights({
    fromMicros: day('2001-02-01'),
    toMicros: day('2001-02-02'),
    perDay: 9999,
    seed: 1,
  })
  expect(flights.every((flight) => flight.knownMicros > flight.timeMicros)).toBe(true)
})

test('a feature row counts exactly the outcomes known by its time', async () => {
  const end = day('2001-02-10') + 12n * 3_600_000_000n
  const all = await upstream.flights({
    fromMicros: day('2001-02-07'),
    toMicros: day('2001-02-11'),
    perDay: 99999,
    seed: 1,
  })
  const rows = await upstream.featureRows('origin_stats', end, end + 1n)
  expect(rows.length).toBeGreaterThan(20)
  for (const row of rows) {
    const known = all.filter(
      (flight) => flight.origin === row.key && flight.knownMicros >= end - 86_400_000_000n && flight.knownMicros < end,
    )
    expect(row.values[2]).toBe(known.length)
    expect(row.values[1]).toBeCloseTo(known.filter((flight) => flight.late === 1).length / known.length, 12)
  }
})
