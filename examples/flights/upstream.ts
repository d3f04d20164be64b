/**
 * The airline's warehouse: what an upstream team would have, over the flights of the package vega-datasets (US
 * domestic flights, January to June 2001). It knows flights and their outcomes, and computes the features that a
 * pipeline of that team would push. Only the 25 busiest airports are kept, a million flights.
 *
 * 1. An outcome is known when the aircraft has landed: departure + 30 min + flight time at 450 mph + delay.
 * 2. A feature row that ends at a time uses only outcomes known by then, and is published `publishDelayMicros` later.
 * 3. Everything is a function of the data and the seed.
 */
import { fileURLToPath } from 'node:url'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'

/** How long after the end of its window a feature row is published. */
export const publishDelayMicros = 10n * 60n * 1_000_000n

/** Kilometres in a statute mile. */
export const kilometresPerMile = 1.609344

/** A flight as its departure is announced, with what becomes known of it later. */
export interface Flight {
  readonly id: string
  /** Departure, microseconds since the epoch. */
  readonly timeMicros: bigint
  readonly origin: string
  readonly destination: string
  readonly route: string
  /** Route and hour of departure, for example `ATL-JFK@17`. */
  readonly slot: string
  /** Local hour of departure with its minutes as a fraction, 0 to 24. */
  readonly departureHour: number
  /** Statute miles, whatever unit the upstream sends. */
  readonly distanceMiles: number
  /** 1 when the delay was 15 minutes or more. */
  readonly late: 0 | 1
  /** When the outcome is known, microseconds since the epoch. */
  readonly knownMicros: bigint
}

/** The feature views that the upstream computes. */
export type UpstreamView = 'origin_stats' | 'destination_stats' | 'route_history' | 'slot_history'

/** One row of a feature view. */
export interface UpstreamRow {
  readonly key: string
  readonly eventMicros: bigint
  readonly values: readonly number[]
}

/** The columns of each view, in the order of `UpstreamRow.values`. */
export const viewColumns = {
  origin_stats: ['origin_mean_delay_3h', 'origin_share_late_24h', 'origin_departures_24h'],
  destination_stats: ['destination_mean_delay_3h', 'destination_share_late_24h'],
  route_history: ['route_mean_delay_21d', 'route_share_late_21d', 'route_flights_21d'],
  slot_history: ['slot_share_late_21d', 'slot_flights_21d'],
} as const satisfies Record<UpstreamView, readonly string[]>

/** Part of the flights: `[from, to)`, at most `perDay` of each day, chosen by a hash of the flight and the seed. */
export interface FlightQuery {
  readonly fromMicros: bigint
  readonly toMicros: bigint
  readonly perDay: number
  readonly seed: number
}

/** The unit in which the upstream sends distances. */
export type DistanceUnit = 'miles' | 'kilometres'

/** The warehouse, open. */
export interface Upstream {
  /** Flights in order of departure. */
  flights(query: FlightQuery): Promise<Flight[]>
  /** Rows of a view whose window ends in `[fromMicros, toMicros)`, in order of time. */
  featureRows(view: UpstreamView, fromMicros: bigint, toMicros: bigint): Promise<UpstreamRow[]>
  /**
   * Writes flights as Parquet: the spine of a training set, with keys, `event_time`, the features that come with a
   * request (distance in the given unit) and the label `late`.
   */
  writeSpine(query: FlightQuery, unit: DistanceUnit, path: string): Promise<void>
  /**
   * Probability of a late flight by hour and route over all flights of `[fromMicros, toMicros)`, shrunk to the hour's
   * probability with the weight of 20 flights: the baseline that a model has to beat.
   */
  baseRates(fromMicros: bigint, toMicros: bigint): Promise<(flight: Flight) => number>
  close(): void
}

/** Reads the flights and computes all views; about two seconds and 300 MB. */
export async function openUpstream(): Promise<Upstream> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '2', memory_limit: '450MB' })
  const connection = await instance.connect()
  const parquet = fileURLToPath(new URL('../data/flights-3m.parquet', import.meta.resolve('vega-datasets')))
  for (const statement of [flightsTable(parquet), ...viewTables]) await connection.run(statement)
  return {
    flights: (query) => flights(connection, query),
    featureRows: (view, from, to) => featureRows(connection, view, from, to),
    writeSpine: async (query, unit, path) => {
      const distance = unit === 'miles' ? 'miles' : `miles * ${kilometresPerMile}`
      await connection.run(`
        copy (select origin, destination, route, slot, departure as event_time, ${distance} as distance,
          ${departureHour} as departure_hour, late, id::varchar as flight from (${sample(query)}) order by departure, id)
        to '${path}' (format parquet)`)
    },
    baseRates: (from, to) => baseRates(connection, from, to),
    close: () => {
      connection.closeSync()
      instance.closeSync()
    },
  }
}

const flightsTable = (parquet: string) => `
  create table flights as
  with busy as (select origin as airport from '${parquet}' group by 1 order by count(*) desc, 1 limit 25)
  select row_number() over (order by date, origin, destination, delay, distance) as id,
    date as departure, least(greatest(delay, -30), 240)::double as delay, (delay >= 15)::int as late,
    distance::double as miles, origin, destination, origin || '-' || destination as route,
    origin || '-' || destination || '@' || hour(date) as slot,
    date + to_minutes((30 + distance / 7.5 + greatest(delay, 0))::int) as known
  from '${parquet}'
  where origin in (select airport from busy) and destination in (select airport from busy)`

/** Sums of outcomes by key and the end of the slice in which they became known. */
const slices = (key: string, slice: string) => `
  select ${key} as key, time_bucket(interval '${slice}', known, timestamp '2001-01-01') + interval '${slice}' as event,
    sum(delay) as delay, sum(late) as late, count(*) as flights from flights group by 1, 2`

const trailing = (span: string) =>
  `over (partition by key order by event range between interval '${span}' preceding and current row)`

const viewTables = [
  ...(['origin', 'destination'] as const).map(
    (key) => `
      create table ${key}_stats as with slice as (${slices(key, '3 hours')})
      select key, event, delay / flights as v0, sum(late) ${trailing('21 hours')} / sum(flights) ${trailing('21 hours')} as v1,
        sum(flights) ${trailing('21 hours')} as v2 from slice`,
  ),
  `create table route_history as with slice as (${slices('route', '1 day')})
   select key, event, sum(delay) ${trailing('20 days')} / sum(flights) ${trailing('20 days')} as v0,
     sum(late) ${trailing('20 days')} / sum(flights) ${trailing('20 days')} as v1,
     sum(flights) ${trailing('20 days')} as v2 from slice`,
  // Two flights of prior weight keep a slot with one flight from looking certain.
  `create table slot_history as with slice as (${slices('slot', '7 days')})
   select key, event, (sum(late) ${trailing('14 days')} + 2) / (sum(flights) ${trailing('14 days')} + 10) as v0,
     sum(flights) ${trailing('14 days')} as v1 from slice`,
]

const micros = (value: bigint) => `make_timestamp(${value})`

const departureHour = '(hour(departure) + minute(departure) / 60.0)::double'

const sample = (query: FlightQuery) => `
  select * from flights where departure >= ${micros(query.fromMicros)} and departure < ${micros(query.toMicros)}
  qualify row_number() over (partition by date_trunc('day', departure) order by hash(id, ${query.seed}), id) <= ${query.perDay}`

async function flights(connection: DuckDBConnection, query: FlightQuery): Promise<Flight[]> {
  const result = await connection.runAndReadAll(`
    select id::varchar, epoch_us(departure), origin, destination, route, slot, ${departureHour}, miles, late, epoch_us(known)
    from (${sample(query)}) order by departure, id`)
  return result.getRows().map((row) => ({
    id: String(row[0]),
    timeMicros: BigInt(Number(row[1])),
    origin: String(row[2]),
    destination: String(row[3]),
    route: String(row[4]),
    slot: String(row[5]),
    departureHour: Number(row[6]),
    distanceMiles: Number(row[7]),
    late: row[8] === 1 ? 1 : 0,
    knownMicros: BigInt(Number(row[9])),
  }))
}

async function featureRows(connection: DuckDBConnection, view: UpstreamView, from: bigint, to: bigint) {
  const columns = viewColumns[view].map((_, index) => `v${index}::double`)
  const result = await connection.runAndReadAll(`
    select key, epoch_us(event), ${columns.join(', ')} from ${view}
    where event >= ${micros(from)} and event < ${micros(to)} order by event, key`)
  return result.getRows().map((row) => ({
    key: String(row[0]),
    eventMicros: BigInt(Number(row[1])),
    values: row.slice(2).map(Number),
  }))
}

async function baseRates(connection: DuckDBConnection, from: bigint, to: bigint) {
  const period = `from flights where departure >= ${micros(from)} and departure < ${micros(to)}`
  const hours = await connection.runAndReadAll(`select hour(departure), avg(late) ${period} group by 1`)
  const slots = await connection.runAndReadAll(`select slot, sum(late)::double, count(*)::double ${period} group by 1`)
  const byHour = new Map(hours.getRows().map((row) => [Number(row[0]), Number(row[1])]))
  const bySlot = new Map(
    slots.getRows().map((row) => [String(row[0]), { late: Number(row[1]), flights: Number(row[2]) }]),
  )
  const priorFlights = 20
  return (flight: Flight) => {
    const prior = byHour.get(Math.floor(flight.departureHour)) ?? 0.2
    const slot = bySlot.get(flight.slot) ?? { late: 0, flights: 0 }
    return (slot.late + prior * priorFlights) / (slot.flights + priorFlights)
  }
}
