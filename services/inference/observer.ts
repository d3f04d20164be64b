/** What is measured and traced of predictions, after their answers have left. Nothing is done while no SDK runs. */
import type { ObservableCallback } from '@opentelemetry/api'
import {
  type Attributes,
  attribute,
  type Context,
  context,
  extractTraceContext,
  type Logger,
  meter,
  metric,
  telemetryRuns,
} from '@slipway/telemetry'
import type { ModelTable } from './model-table.ts'
import { traceBatch, traceFailure } from './prediction-spans.ts'
import type { ResidencyOptions } from './residency-loop.ts'
import type { Servable } from './servable.ts'
import type { RunOptions } from './served-version.ts'
import { VersionLabels } from './version-labels.ts'

const SCOPE = 'slipway.inference'

/** What a failed request counts as, by the reason of its failure; `failed` where nothing else is said. */
const outcomes: Readonly<Record<string, string>> = {
  DEADLINE_EXCEEDED: 'expired',
  CANCELLED: 'cancelled',
  QUEUE_FULL: 'shed',
  EXECUTOR_DIED: 'died',
}

/** The trace that a request belongs to: the one that it names itself, else the one of its call; undefined while no SDK runs. */
export function traceOf(traceParent: string | undefined): Context | undefined {
  if (!telemetryRuns()) return undefined
  return traceParent === undefined ? context.active() : extractTraceContext({ traceparent: traceParent })
}

/** What listens to running versions. */
export type Observer = Required<Pick<RunOptions, 'onBatch' | 'onFailed' | 'onDeath' | 'onReplaced'>> & {
  /** Stops watching the queues. */
  stop(): void
}

/** Hears of batches, failures and deaths, and watches the queues and the memory of all models. */
export function createObserver(log: Logger, models: ModelTable, maxLabelledVersions?: number): Observer {
  const labels = new VersionLabels(models, maxLabelledVersions)
  const metrics = meter(SCOPE)
  const deaths = metrics.createCounter(metric.inferenceExecutorDeaths)
  const replacements = metrics.createCounter(metric.inferenceExecutorReplacements)
  return {
    ...observePredictions(labels),
    stop: observeTable(models, labels),
    onDeath(version, reason, isQuarantined) {
      const outcome = isQuarantined ? 'quarantined' : 'restarted'
      deaths.add(1, labels.with(version, attribute.outcome, outcome))
      log.error('an executor died', { version: version.name, reason, quarantined: isQuarantined })
    },
    onReplaced(version, reason) {
      replacements.add(1, labels.of(version))
      log.warn('an executor was replaced', { version: version.name, reason })
    },
  }
}

function observePredictions(labels: VersionLabels): Pick<Observer, 'onBatch' | 'onFailed'> {
  const metrics = meter(SCOPE)
  const queueDuration = metrics.createHistogram(metric.inferenceQueueDuration)
  const waitDuration = metrics.createHistogram(metric.inferenceBatchWaitDuration)
  const executeDuration = metrics.createHistogram(metric.inferenceExecuteDuration)
  const serialiseDuration = metrics.createHistogram(metric.inferenceSerialiseDuration)
  const batchRows = metrics.createHistogram(metric.inferenceBatchRows)
  const requests = metrics.createCounter(metric.inferenceRequests)
  const executedLate = metrics.createCounter(metric.inferenceExecutedAfterDeadline)
  return {
    onBatch(version, batch, result) {
      if (!telemetryRuns()) return
      const { members, dispatchedMs } = batch
      const writtenMs = performance.now()
      const runBeganMs = dispatchedMs + ((result.waitMicros ?? 0) + (result.inputMicros ?? 0)) / 1000
      const runEndedMs = Math.min(runBeganMs + result.computeMicros / 1000, writtenMs)
      const answered = labels.with(version, attribute.outcome, 'answered')
      for (const { arrivedMs } of members) queueDuration.record((dispatchedMs - arrivedMs) / 1000, answered)
      waitDuration.record((runBeganMs - dispatchedMs) / 1000, answered)
      executeDuration.record(result.computeMicros / 1e6, answered)
      serialiseDuration.record((writtenMs - runEndedMs) / 1000, answered)
      batchRows.record(batch.rows, labels.with(version, attribute.batchReason, batch.reason))
      requests.add(members.length, answered)
      if ((result.beganMs ?? 0) > batch.notAfterMs) executedLate.add(1, labels.of(version))
      traceBatch(version, batch, { runBeganMs, runEndedMs, writtenMs })
    },
    onFailed(version, work, { reason }) {
      if (!telemetryRuns()) return
      const outcome = outcomes[reason] ?? 'failed'
      const failed = labels.with(version, attribute.outcome, outcome)
      queueDuration.record((performance.now() - work.arrivedMs) / 1000, failed)
      requests.add(1, failed)
      traceFailure(version, work, outcome)
    },
  }
}

function observeTable(models: ModelTable, labels: VersionLabels): () => void {
  const metrics = meter(SCOPE)
  const gauges = [
    { gauge: metrics.createObservableGauge(metric.inferenceModelsLoaded), tell: tellLoaded },
    {
      gauge: metrics.createObservableGauge(metric.inferenceQueueLength),
      tell: tellEach(({ counts }) => counts.queued),
    },
    {
      gauge: metrics.createObservableGauge(metric.inferenceModelMemory),
      tell: tellEach(({ memoryBytes }) => memoryBytes),
    },
  ]
  for (const { gauge, tell } of gauges) gauge.addCallback(tell)
  return () => {
    for (const { gauge, tell } of gauges) gauge.removeCallback(tell)
  }

  function tellLoaded(result: Parameters<ObservableCallback>[0]): void {
    result.observe([...models].filter(({ state }) => state.kind === 'ready').length)
  }

  /** One figure of each version; those that share a label are added up. */
  function tellEach(figureOf: (served: Servable) => number | undefined): ObservableCallback {
    return (result) => {
      const sums = new Map<Attributes, number>()
      for (const { state } of models) {
        const figure = state.kind === 'ready' ? figureOf(state.served) : undefined
        if (state.kind !== 'ready' || figure === undefined) continue
        const label = labels.of(state.served)
        sums.set(label, (sums.get(label) ?? 0) + figure)
      }
      for (const [label, sum] of sums) result.observe(sum, label)
    }
  }
}

/** What is said about versions that come and go. */
export function createLoadLog(
  log: Logger,
): Pick<ResidencyOptions, 'onLoaded' | 'onLoadFailed' | 'onUnloaded' | 'onError'> {
  const loadDuration = meter(SCOPE).createHistogram(metric.inferenceLoadDuration)
  return {
    onLoaded({ name, digest }, tookMs) {
      loadDuration.record(tookMs / 1000)
      log.info('a version is loaded', { version: name, digest, tookMs })
    },
    onLoadFailed: (name, failure) => log.error('a version could not be loaded', { version: name, error: failure }),
    onUnloaded: (name, reason) => log.info('a version was let go', { version: name, reason }),
    onError: (error) => log.error('a version could not be let go', { error }),
  }
}
