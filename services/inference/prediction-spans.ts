import { attribute, SpanKind, SpanStatusCode, trace, tracer } from '@slipway/telemetry'
import type { WorkBatch } from './batcher.ts'
import type { Servable } from './servable.ts'
import type { Work } from './work-queue.ts'

const SCOPE = 'slipway.inference'
const PREDICT = 'inference.predict'

/** When a batch's stages ended, all by `performance.now()`. */
export interface StageTimes {
  readonly runBeganMs: number
  readonly runEndedMs: number
  readonly writtenMs: number
}

/** One span for each member of a batch whose trace is kept, with one for each stage below it. */
export function traceBatch(
  version: Servable,
  batch: WorkBatch,
  { runBeganMs, runEndedMs, writtenMs }: StageTimes,
): void {
  const { members, dispatchedMs } = batch
  for (const { trace: parent, arrivedMs } of members) {
    if (parent === undefined) continue
    const span = tracer(SCOPE).startSpan(PREDICT, optionsOf(version, arrivedMs), parent)
    if (span.isRecording()) {
      const within = trace.setSpan(parent, span)
      const stage = (name: string, fromMs: number, toMs: number, attributes = {}) =>
        tracer(SCOPE)
          .startSpan(name, { startTime: epoch(fromMs), attributes }, within)
          .end(epoch(toMs))
      stage('inference.queue', arrivedMs, dispatchedMs)
      stage('inference.execute', dispatchedMs, runEndedMs, {
        [attribute.batchRows]: batch.rows,
        [attribute.batchReason]: batch.reason,
        [attribute.batchWait]: (runBeganMs - dispatchedMs) / 1000,
      })
      stage('inference.serialise', runEndedMs, writtenMs)
    }
    span.end(epoch(writtenMs))
  }
}

/** The span of a request that was not answered. */
export function traceFailure(version: Servable, { trace: parent, arrivedMs }: Work, outcome: string): void {
  if (parent === undefined) return
  const span = tracer(SCOPE).startSpan(PREDICT, optionsOf(version, arrivedMs), parent)
  if (span.isRecording()) {
    span.setAttribute(attribute.outcome, outcome)
    span.setStatus({ code: SpanStatusCode.ERROR })
  }
  span.end(epoch(performance.now()))
}

function optionsOf({ model, number, digest }: Servable, arrivedMs: number) {
  const attributes = {
    [attribute.model]: model,
    [attribute.modelVersion]: number,
    [attribute.modelDigest]: digest,
  }
  return { kind: SpanKind.INTERNAL, attributes, startTime: epoch(arrivedMs) }
}

function epoch(ms: number): number {
  return performance.timeOrigin + ms
}
