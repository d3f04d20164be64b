/**
 * Traffic: flights of the weeks after the training call the endpoint in the order of their departures, while the
 * upstream goes on publishing features and outcomes become known.
 *
 * 1. A flight is predicted after every feature row published by its departure was acknowledged, and before any later one.
 * 2. An outcome is reported after it is known, in event time, never before.
 * 3. A prediction that could not be answered is tried again for 30 s; then it counts as failed.
 * 4. A day takes at least `secondsPerDay` of the clock, so that whoever watches can keep up.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { dayMicros } from './calendar.ts'
import { createLatencyRecorder, type LatencyRecorder } from './latency.ts'
import { type Flight, publishDelayMicros, type Upstream } from './upstream.ts'

/** A slice runs from one publication of the upstream to the next. */
const sliceMicros = 10_800_000_000n
const slicesPerDay = Number(dayMicros / sliceMicros)

/** What the replay does to the world; each call returns when it was acknowledged, or throws when it was given up. */
export interface ReplayPorts {
  /** Publishes the feature rows whose windows end in `[fromMicros, toMicros)`. */
  publishFeatures(fromMicros: bigint, toMicros: bigint): Promise<void>
  predict(flight: Flight): Promise<void>
  reportOutcomes(flights: readonly Flight[]): Promise<void>
}

/** How the replay runs. */
export interface ReplayOptions {
  readonly upstream: Pick<Upstream, 'flights'>
  readonly ports: ReplayPorts
  /** A midnight. */
  readonly fromMicros: bigint
  readonly perDay: number
  readonly seed: number
  readonly callers: number
  readonly secondsPerDay: number
  /** Called after each slice. */
  readonly onProgress: (replay: Replay) => void
}

/** What was counted so far. */
export interface ReplayCounts {
  readonly offered: number
  readonly answered: number
  readonly failed: number
  readonly labelsSent: number
}

/** A running replay. */
export interface Replay {
  counts(): ReplayCounts
  readonly latency: LatencyRecorder
  /** Event time that has been played. */
  nowMicros(): bigint
  /** When the first prediction was answered, by `performance.now()`; NaN before. */
  firstAnswerMs(): number
  /** Answered predictions per second since the start. */
  perSecond(): number
  /** Resolves when event time has reached this; rejects when the replay broke. */
  reached(timeMicros: bigint): Promise<void>
  /** Ends after the running slice, then reports the outcomes that are still to come. */
  stop(): Promise<void>
}

/** Starts to play. */
export function startReplay(options: ReplayOptions): Replay {
  const state = { offered: 0, answered: 0, failed: 0, labelsSent: 0, now: options.fromMicros, stopping: false }
  const latency = createLatencyRecorder()
  const startedMs = performance.now()
  let elapsedMs = 0
  let firstAnswerMs = Number.NaN
  let pending: Flight[] = []
  const waiters: { timeMicros: bigint; resolve: () => void }[] = []

  const predict = async (flight: Flight) => {
    state.offered++
    const callMs = performance.now()
    try {
      await options.ports.predict(flight)
      if (state.answered++ === 0) firstAnswerMs = performance.now()
      pending.push(flight)
      latency.record(performance.now() - callMs)
    } catch {
      state.failed++
    }
  }
  const report = async (untilMicros: bigint | undefined) => {
    const known = pending.filter((flight) => untilMicros === undefined || flight.knownMicros <= untilMicros)
    pending = pending.filter((flight) => untilMicros !== undefined && flight.knownMicros > untilMicros)
    for (let at = 0; at < known.length; at += 1000) {
      const batch = known.slice(at, at + 1000)
      await options.ports.reportOutcomes(batch)
      state.labelsSent += batch.length
    }
  }
  const playSlice = async (flights: readonly Flight[], fromMicros: bigint) => {
    const least = delay((options.secondsPerDay * 1000) / slicesPerDay)
    const windowsEnd = fromMicros - publishDelayMicros
    await options.ports.publishFeatures(windowsEnd, windowsEnd + sliceMicros)
    await report(fromMicros)
    const queue = flights.values()
    const caller = async () => {
      for (const flight of queue) await predict(flight)
    }
    await Promise.all(Array.from({ length: options.callers }, caller))
    await least
    state.now = fromMicros + sliceMicros
    elapsedMs = performance.now() - startedMs
    for (const waiter of waiters) if (waiter.timeMicros <= state.now) waiter.resolve()
    options.onProgress(replay)
  }
  const play = async () => {
    for (let day = options.fromMicros; !state.stopping; day += dayMicros) {
      const start = day + publishDelayMicros
      const flights = await options.upstream.flights({
        fromMicros: start,
        toMicros: start + dayMicros,
        perDay: options.perDay,
        seed: options.seed,
      })
      if (flights.length === 0) throw new Error('the replay ran out of flights')
      for (let from = start; from < start + dayMicros && !state.stopping; from += sliceMicros) {
        await playSlice(
          flights.filter((flight) => flight.timeMicros >= from && flight.timeMicros < from + sliceMicros),
          from,
        )
      }
    }
    await report(undefined)
  }
  const replay: Replay = {
    counts: () => ({
      offered: state.offered,
      answered: state.answered,
      failed: state.failed,
      labelsSent: state.labelsSent,
    }),
    latency,
    nowMicros: () => state.now,
    firstAnswerMs: () => firstAnswerMs,
    perSecond: () => (elapsedMs === 0 ? 0 : (state.answered * 1000) / elapsedMs),
    reached: (timeMicros) => {
      if (timeMicros <= state.now) return Promise.resolve()
      const { promise, resolve } = Promise.withResolvers<void>()
      waiters.push({ timeMicros, resolve })
      return Promise.race([promise, playing])
    },
    stop: async () => {
      state.stopping = true
      await playing
    },
  }
  const playing = play()
  playing.catch(() => undefined)
  return replay
}
