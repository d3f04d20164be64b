/** What is measured and traced of predictions, after their answers have left. Nothing is done while no SDK runs. */
import type { ObservableCallback } from '@opentelemetry/api'
import {
  attribute,
  type Context,
  context,
  extractTraceContext,
  type Logger,
  meter,
  metric,
  SpanKind,
  telemetryRuns,
  trace,
  tracer,
} from '@slipway/telemetry'
import type { WorkBatch } from './batcher.ts'
import type { BatchResult } from './executors/executor.ts'
import type { ModelTable } from './model-table.ts'
import type { ResidencyOptions } from './residency-loop.ts'
import type { Servable } from './servable.ts'
import type { RunOptions, ServedVersion } from './served-version.ts'

const SCOPE = 'slipway.inference'

/** The trace that a request belongs to: the one that it names itself, else the one of its call; undefined while no SDK runs. */
export function traceOf(traceParent: string | undefined): Context | undefined {
  if (!telemetryRuns()) return undefined
  return traceParent === undefined ? context.active() : extractTraceContext({ traceparent: traceParent })
}

/** What listens to running versions. */
export type Observer = Required<Pick<RunOptions, 'onBatch' | 'onDeath'>> & {
  /** Stops watching the queues. */
  stop(): void
}

/** Hears of batches and deaths, and watches the queues of all models. */
export function createObserver(log: Logger, models: ModelTable): Observer {
  const metrics = meter(SCOPE)
  const queueDuration = metrics.createHistogram(metric.inferenceQueueDuration)
  const executeDuration = metrics.createHistogram(metric.inferenceExecuteDuration)
  const batchRows = metrics.createHistogram(metric.inferenceBatchRows)
  const stop = observeTable(models)
  return {
    stop,
    onBatch(version, batch, result) {
      if (!telemetryRuns()) return
      const labels = labelsOf(version)
      executeDuration.record(result.computeMicros / 1e6, labels)
      batchRows.record(batch.rows, { ...labels, [attribute.batchReason]: batch.reason })
      for (const { arrivedMs } of batch.members) queueDuration.record((batch.dispatchedMs - arrivedMs) / 1000, labels)
      traceBatch(version, batch, result)
    },
    onDeath(version, reason, quarantined) {
      log.error('an executor died', { version: version.name, reason, quarantined })
    },
  }
}

function observeTable(models: ModelTable): () => void {
  const metrics = meter(SCOPE)
  const loaded = metrics.createObservableGauge(metric.inferenceModelsLoaded)
  const queued = metrics.createObservableGauge(metric.inferenceQueueLength)
  const countLoaded: ObservableCallback = (result) => {
    result.observe([...models].filter(({ state }) => state.kind === 'ready').length)
  }
  const countQueued: ObservableCallback = (result) => {
    for (const { state } of models) {
      if (state.kind === 'ready') result.observe(state.served.counts.queued, labelsOf(state.served))
    }
  }
  loaded.addCallback(countLoaded)
  queued.addCallback(countQueued)
  return () => {
    loaded.removeCallback(countLoaded)
    queued.removeCallback(countQueued)
  }
}

function labelsOf({ model, number }: Pick<Servable, 'model' | 'number'>) {
  return { [attribute.model]: model, [attribute.modelVersion]: number }
}

/** One span for each member that is traced, with its stages below it. */
function traceBatch(version: ServedVersion, batch: WorkBatch, result: BatchResult): void {
  const endMs = performance.now()
  const spans = tracer(SCOPE)
  const at = (ms: number) => performance.timeOrigin + ms
  for (const { trace: parent, arrivedMs } of batch.members) {
    if (parent === undefined) continue
    const attributes = { ...labelsOf(version), [attribute.modelDigest]: version.digest }
    const options = { kind: SpanKind.INTERNAL, attributes, startTime: at(arrivedMs) }
    const span = spans.startSpan('inference.predict', options, parent)
    if (span.isRecording()) {
      const within = trace.setSpan(parent, span)
      const stage = (name: string, fromMs: number, toMs: number, extra = {}) =>
        spans.startSpan(name, { startTime: at(fromMs), attributes: extra }, within).end(at(toMs))
      stage('inference.queue', arrivedMs, batch.dispatchedMs)
      stage('inference.execute', batch.dispatchedMs, batch.dispatchedMs + result.computeMicros / 1000, {
        [attribute.batchRows]: batch.rows,
      })
    }
    span.end(at(endMs))
  }
}

/** What is said about versions that come and go. */
export function createLoadLog(
  log: Logger,
): Pick<ResidencyOptions, 'onLoaded' | 'onLoadFailed' | 'onUnloaded' | 'onError'> {
  const loadDuration = meter(SCOPE).createHistogram(metric.inferenceLoadDuration)
  return {
    onLoaded({ name, digest, model }, tookMs) {
      loadDuration.record(tookMs / 1000, { [attribute.model]: model })
      log.info('a version is loaded', { version: name, digest, tookMs })
    },
    onLoadFailed: (name, failure) => log.error('a version could not be loaded', { version: name, error: failure }),
    onUnloaded: (name, reason) => log.info('a version was let go', { version: name, reason }),
    onError: (error) => log.error('a version could not be let go', { error }),
  }
}
