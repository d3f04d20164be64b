/**
 * Real days: flights between the 25 busiest airports of the United States, January to June 2001, from the package
 * vega-datasets, with the kind of features that a delay model reads. Some hardly differ from day to day (distance), some
 * by the hour (departure), some with the weather (recent delays) and some with the season (means over 14 days).
 */
import { fileURLToPath } from 'node:url'
import { DuckDBInstance } from '@duckdb/node-api'

/** The features of a flight, in order. */
export const flightFeatures = [
  'departure_hour',
  'distance',
  'origin_departures_24h',
  'origin_mean_delay_3h',
  'origin_share_late_24h',
  'destination_mean_delay_3h',
  'route_mean_delay_14d',
] as const

/** A flight: its time and one value a feature, NaN where there is none. */
export interface FlightRow {
  readonly timeMicros: bigint
  readonly values: readonly number[]
}

/** Flights by day since the epoch, at most `perDay` of each, chosen by a fixed hash. */
export async function readFlights(perDay: number): Promise<Map<number, FlightRow[]>> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '2', memory_limit: '700MB' })
  const connection = await instance.connect()
  const parquet = fileURLToPath(new URL('../data/flights-3m.parquet', import.meta.resolve('vega-datasets')))
  for (const statement of statements(parquet)) await connection.run(statement)
  const result = await connection.runAndReadAll(sampled(perDay))
  const columns = result.getColumns()
  connection.closeSync()
  instance.closeSync()
  const [times = [], ...values] = columns
  const byDay = new Map<number, FlightRow[]>()
  for (const [row, time] of times.entries()) {
    const seconds = Number(time)
    const flight = {
      timeMicros: BigInt(seconds) * 1_000_000n,
      values: values.map((column) => (column[row] === null ? Number.NaN : Number(column[row]))),
    }
    const day = Math.floor(seconds / 86_400)
    const ofDay = byDay.get(day) ?? []
    byDay.set(day, ofDay)
    ofDay.push(flight)
  }
  return byDay
}

const statements = (parquet: string) => [
  `create table flights as
   with busy as (select origin as airport from '${parquet}' group by 1 order by count(*) desc, 1 limit 25)
   select row_number() over (order by date, origin, destination, delay, distance) as id, date as departure,
     least(greatest(delay, -30), 240)::double as delay, (delay >= 15)::int as late, distance::double as distance,
     origin, destination, origin || destination as route,
     date + to_minutes((30 + distance / 7.5 + greatest(delay, 0))::int) as known
   from '${parquet}' where origin in (select airport from busy) and destination in (select airport from busy)`,
  ...['origin', 'destination'].map(
    (key) => `create table ${key}_recent as
     with slice as (
       select ${key} as key, time_bucket(interval '3 hours', known) + interval '3 hours' as event, sum(delay) as delay,
         sum(late) as late, count(*) as flights from flights group by 1, 2)
     select key, event, delay / flights as mean_delay, sum(late) over day / sum(flights) over day as share_late,
       sum(flights) over day as departures
     from slice window day as (partition by key order by event range between interval '21 hours' preceding and current row)`,
  ),
  `create table route_recent as
   with slice as (
     select route as key, time_bucket(interval '1 day', known) + interval '1 day' as event, sum(delay) as delay,
       count(*) as flights from flights group by 1, 2)
   select key, event, sum(delay) over weeks / sum(flights) over weeks as mean_delay
   from slice window weeks as (partition by key order by event range between interval '13 days' preceding and current row)`,
]

const sampled = (perDay: number) => `
  with chosen as (
    select * from flights
    qualify row_number() over (partition by date_trunc('day', departure) order by hash(id)) <= ${perDay})
  select epoch(departure)::double, hour(departure) + minute(departure) / 60.0::double, distance,
    o.departures::double, o.mean_delay, o.share_late, d.mean_delay, r.mean_delay
  from chosen c
  asof left join origin_recent o on c.origin = o.key and c.departure >= o.event
  asof left join destination_recent d on c.destination = d.key and c.departure >= d.event
  asof left join route_recent r on c.route = r.key and c.departure >= r.event
  order by c.departure, c.id`
