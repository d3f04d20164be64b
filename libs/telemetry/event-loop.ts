import { monitorEventLoopDelay } from 'node:perf_hooks'
import { meter } from './instruments.ts'
import { metric } from './names.ts'

const RESOLUTION_MS = 10

/** How late the event loop was: quantiles since the last look, in seconds. */
export interface EventLoopDelay {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Watches how late timers come; a sample every 10 ms. */
export class EventLoopWatch {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })

  constructor() {
    this.#histogram.enable()
  }

  /** What was found since the last look. */
  take(): EventLoopDelay {
    const histogram = this.#histogram
    // A timer that comes in time comes after its interval: only what is beyond it is delay. While nothing was sampled, nothing was late.
    const late = (nanoseconds: number) =>
      Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1e3) : 0
    const [p50, p99] = [50, 99].map((percentile) => late(histogram.percentile(percentile)))
    const delay = { p50: p50 ?? 0, p99: p99 ?? 0, max: late(histogram.max) }
    histogram.reset()
    return delay
  }

  stop(): void {
    this.#histogram.disable()
  }
}

/** Has the event loop's delay exported; the result stops it. */
export function exportEventLoopDelay(): () => void {
  const watch = new EventLoopWatch()
  const metrics = meter('slipway.process')
  const p50 = metrics.createObservableGauge(metric.eventLoopDelayP50)
  const p99 = metrics.createObservableGauge(metric.eventLoopDelayP99)
  const max = metrics.createObservableGauge(metric.eventLoopDelayMax)
  let delay: EventLoopDelay = { p50: 0, p99: 0, max: 0 }
  let takenMs = Number.NEGATIVE_INFINITY
  const taken = (): EventLoopDelay => {
    // One export asks three times.
    const nowMs = performance.now()
    if (nowMs - takenMs > RESOLUTION_MS) delay = watch.take()
    takenMs = nowMs
    return delay
  }
  const callbacks = [
    { gauge: p50, tell: (result: { observe(value: number): void }) => result.observe(taken().p50) },
    { gauge: p99, tell: (result: { observe(value: number): void }) => result.observe(taken().p99) },
    { gauge: max, tell: (result: { observe(value: number): void }) => result.observe(taken().max) },
  ]
  for (const { gauge, tell } of callbacks) gauge.addCallback(tell)
  return () => {
    for (const { gauge, tell } of callbacks) gauge.removeCallback(tell)
    watch.stop()
  }
}
