/**
 * The names of all metrics and attributes, so that what one service writes another can be asked for.
 *
 * 1. A name is lower-case words joined by underscores, in parts joined by dots; the first part is `slipway`, or the
 *    namespace of the OpenTelemetry semantic convention that it comes from.
 * 2. A metric's unit is UCUM and is never part of its name; lengths of time are seconds.
 * 3. Feature values, tensors and entity keys have no name here: they never become attributes.
 */

/** What spans, metrics and log lines are labelled with. */
export const attribute = {
  rpcSystem: 'rpc.system.name',
  rpcMethod: 'rpc.method',
  rpcStatusCode: 'rpc.response.status_code',
  errorType: 'error.type',
  serverAddress: 'server.address',
  serverPort: 'server.port',
  messagingSystem: 'messaging.system',
  messagingOperation: 'messaging.operation.name',
  messagingDestination: 'messaging.destination.name',
  messagingPartition: 'messaging.destination.partition.id',
  messagingGroup: 'messaging.consumer.group.name',
  messagingBatchSize: 'messaging.batch.message_count',
  /** Why a call failed: the `reason` of its ErrorInfo. */
  failureReason: 'slipway.failure.reason',
  /** Which of the five services. */
  service: 'slipway.service',
  model: 'slipway.model',
  modelVersion: 'slipway.model.version',
  /** The digest that was verified before the version was loaded. */
  modelDigest: 'slipway.model.digest',
  alias: 'slipway.alias',
  gateVerdict: 'slipway.gate.verdict',
  endpoint: 'slipway.endpoint',
  variant: 'slipway.variant',
  predictionId: 'slipway.prediction.id',
  /** `unary` or `stream`. */
  transport: 'slipway.transport',
  /** Part of the way of one prediction: `features`, `assemble`, `infer`, `queue`, `execute`. */
  stage: 'slipway.stage',
  /** What became of something that was asked for: `answered`, or why not in a word. */
  outcome: 'slipway.outcome',
  batchRows: 'slipway.batch.rows',
  /** A step of a pipeline, by its name. */
  pipelineStep: 'slipway.pipeline.step',
  /** Seconds that a batch waited between leaving and running. */
  batchWait: 'slipway.batch.wait',
  /** Why a batch was closed when it was. */
  batchReason: 'slipway.batch.reason',
  featureView: 'slipway.feature_view',
  featureService: 'slipway.feature_service',
  featureStatus: 'slipway.feature.status',
  entityCount: 'slipway.entity.count',
  writeOutcome: 'slipway.write.outcome',
  monitor: 'slipway.monitor',
  feature: 'slipway.feature',
  incident: 'slipway.incident',
  verdict: 'slipway.verdict',
  windowStart: 'slipway.window.start',
  sampleSize: 'slipway.sample.size',
  topic: 'slipway.topic',
  /** What became of a record: `delivered`, `spooled`, `dropped`, `parked`. */
  delivery: 'slipway.delivery',
} as const

/** Name of one attribute. */
export type AttributeName = (typeof attribute)[keyof typeof attribute]

/** What is measured. */
export const metric = {
  eventLoopDelayP50: 'nodejs.eventloop.delay.p50',
  eventLoopDelayP99: 'nodejs.eventloop.delay.p99',
  eventLoopDelayMax: 'nodejs.eventloop.delay.max',
  rpcServerDuration: 'rpc.server.call.duration',
  rpcClientDuration: 'rpc.client.call.duration',
  rpcServerActive: 'slipway.rpc.server.active_calls',
  rpcClientRetries: 'slipway.rpc.client.retries',
  eventsPublished: 'slipway.events.published',
  eventsHandled: 'slipway.events.handled',
  eventsHandleDuration: 'slipway.events.handle.duration',
  eventsDeadLettered: 'slipway.events.dead_lettered',
  eventsLag: 'slipway.events.lag',
  spoolRecords: 'slipway.spool.records',
  spoolSize: 'slipway.spool.size',
  blobBytesWritten: 'slipway.blob.written',
  blobBytesRead: 'slipway.blob.read',
  registryChanges: 'slipway.registry.changes',
  registryGateDuration: 'slipway.registry.gate.duration',
  featureRowsWritten: 'slipway.features.rows_written',
  featureReadDuration: 'slipway.features.read.duration',
  featureValuesRead: 'slipway.features.values_read',
  inferenceExecuteDuration: 'slipway.inference.execute.duration',
  inferenceQueueDuration: 'slipway.inference.queue.duration',
  inferenceBatchWaitDuration: 'slipway.inference.batch_wait.duration',
  inferenceSerialiseDuration: 'slipway.inference.serialise.duration',
  inferenceRequests: 'slipway.inference.requests',
  inferenceExecutedAfterDeadline: 'slipway.inference.executed_after_deadline',
  inferenceModelMemory: 'slipway.inference.model.memory',
  inferenceExecutorDeaths: 'slipway.inference.executor.deaths',
  inferenceExecutorReplacements: 'slipway.inference.executor.replacements',
  inferenceQueueLength: 'slipway.inference.queue.length',
  inferenceBatchRows: 'slipway.inference.batch.rows',
  inferenceStepDuration: 'slipway.inference.step.duration',
  inferenceExplainedRows: 'slipway.inference.explained_rows',
  inferenceExplainEvaluations: 'slipway.inference.explain_evaluations',
  inferenceBatchJobRows: 'slipway.inference.batch_job.rows',
  inferenceBatchJobPartDuration: 'slipway.inference.batch_job.part.duration',
  inferenceModelsLoaded: 'slipway.inference.models_loaded',
  inferenceLoadDuration: 'slipway.inference.load.duration',
  routerPredictions: 'slipway.router.predictions',
  routerPredictionDuration: 'slipway.router.prediction.duration',
  routerStageDuration: 'slipway.router.stage.duration',
  routerLogRecords: 'slipway.router.log_records',
  routerAttributions: 'slipway.router.attributions',
  feedbackRecorded: 'slipway.router.feedback',
  driftPredictionsCounted: 'slipway.drift.predictions_counted',
  driftWindowsJudged: 'slipway.drift.windows_judged',
  driftEffect: 'slipway.drift.effect',
  driftIncidentsOpen: 'slipway.drift.incidents_open',
} as const

/** Name of one metric. */
export type MetricName = (typeof metric)[keyof typeof metric]

/** How a metric is measured. */
export interface MetricDetails {
  readonly kind: 'counter' | 'upDownCounter' | 'histogram' | 'gauge'
  /** UCUM. */
  readonly unit: string
  readonly description: string
  /** Upper bounds of a histogram's buckets; OpenTelemetry's own are meant for milliseconds. */
  readonly buckets?: readonly number[]
}

const secondsBuckets = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
]
const rowsBuckets = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

const seconds = (description: string): MetricDetails => ({
  kind: 'histogram',
  unit: 's',
  description,
  buckets: secondsBuckets,
})
const count = (unit: string, description: string): MetricDetails => ({ kind: 'counter', unit, description })
const level = (unit: string, description: string): MetricDetails => ({ kind: 'gauge', unit, description })

/** Kind, unit and description of every metric; instruments that `meter()` creates take theirs from here. */
export const metricDetails: Readonly<Record<MetricName, MetricDetails>> = {
  [metric.eventLoopDelayP50]: level('s', 'How late the event loop was since the last export, the median'),
  [metric.eventLoopDelayP99]: level('s', 'How late the event loop was since the last export, 99 times of 100'),
  [metric.eventLoopDelayMax]: level('s', 'How late the event loop was since the last export, at the most'),
  [metric.rpcServerDuration]: seconds('From the first byte of a call to its status'),
  [metric.rpcClientDuration]: seconds('From the start of a call to its status, retries included'),
  [metric.rpcServerActive]: { kind: 'upDownCounter', unit: '{call}', description: 'Calls that are being answered' },
  [metric.rpcClientRetries]: count('{retry}', 'Attempts after the first'),
  [metric.eventsPublished]: count('{record}', 'Records that the bus acknowledged'),
  [metric.eventsHandled]: count('{record}', 'Records whose effect is done and committed'),
  [metric.eventsHandleDuration]: seconds('One batch in its handler'),
  [metric.eventsDeadLettered]: count('{record}', 'Records parked in a dead-letter topic'),
  [metric.eventsLag]: level('{record}', 'Records published and not yet handled by a group'),
  [metric.spoolRecords]: level('{record}', 'Records offered to a spool since it was opened, by what became of them'),
  [metric.spoolSize]: level('By', 'Bytes on disk that wait for the broker'),
  [metric.blobBytesWritten]: count('By', 'Bytes made durable in the blob store'),
  [metric.blobBytesRead]: count('By', 'Bytes read from the blob store'),
  [metric.registryChanges]: count('{change}', 'Revisions that the registry wrote'),
  [metric.registryGateDuration]: seconds('One run of the validation gate'),
  [metric.featureRowsWritten]: count('{row}', 'Feature rows, by what became of them'),
  [metric.featureReadDuration]: seconds('One online read'),
  [metric.featureValuesRead]: count('{value}', 'Feature values answered, by status'),
  [metric.inferenceExecuteDuration]: seconds('One batch in the model runtime'),
  [metric.inferenceQueueDuration]: seconds('One request from arrival until its batch left, or until it was refused'),
  [metric.inferenceBatchWaitDuration]: seconds(
    'One batch from leaving until its run began: its way, and the batch before it',
  ),
  [metric.inferenceSerialiseDuration]: seconds('One batch from the end of its run until its answers were written'),
  [metric.inferenceRequests]: count('{request}', 'Requests, by what became of them'),
  [metric.inferenceExecutedAfterDeadline]: count(
    '{batch}',
    'Batches whose run began after a deadline in them; stays 0',
  ),
  [metric.inferenceModelMemory]: level('By', 'Memory that the executors of a version hold'),
  [metric.inferenceExecutorDeaths]: count('{death}', 'Executors that died, by whether they were started again'),
  [metric.inferenceExecutorReplacements]: count(
    '{executor}',
    'Executors replaced because of the memory that they held',
  ),
  [metric.inferenceQueueLength]: level('{request}', 'Requests that wait for a worker'),
  [metric.inferenceBatchRows]: {
    kind: 'histogram',
    unit: '{row}',
    description: 'Rows that ran together',
    buckets: rowsBuckets,
  },
  [metric.inferenceStepDuration]: seconds('One step of one request of a pipeline'),
  [metric.inferenceExplainedRows]: count('{row}', 'Rows explained, exact or sampled'),
  [metric.inferenceExplainEvaluations]: count('{row}', 'Rows that models answered to explain others'),
  [metric.inferenceBatchJobRows]: count('{row}', 'Rows that batch jobs wrote, by whether the model answered them'),
  [metric.inferenceBatchJobPartDuration]: seconds('One part of a batch job, by what became of it'),
  [metric.inferenceModelsLoaded]: level('{model}', 'Model versions that can answer'),
  [metric.inferenceLoadDuration]: seconds('From the decision to load a version to the first answer it could give'),
  [metric.routerPredictions]: count('{prediction}', 'Predictions answered, by endpoint, variant and status'),
  [metric.routerPredictionDuration]: seconds('One prediction from arrival to answer'),
  [metric.routerStageDuration]: seconds('One stage of one prediction'),
  [metric.routerLogRecords]: count('{record}', 'Log records, by what became of them'),
  [metric.routerAttributions]: count('{prediction}', 'Predictions chosen to be explained, by what came of it'),
  [metric.feedbackRecorded]: count('{label}', 'Labels and rewards accepted'),
  [metric.driftPredictionsCounted]: count('{prediction}', 'Logged predictions counted into a window'),
  [metric.driftWindowsJudged]: count('{window}', 'Windows judged, by verdict'),
  [metric.driftEffect]: level('1', 'Effect size of the last judged window'),
  [metric.driftIncidentsOpen]: level('{incident}', 'Incidents that are open'),
}

/** The table entry of a name, if it is one of ours. */
export function detailsOf(name: string): MetricDetails | undefined {
  return Object.hasOwn(metricDetails, name) ? metricDetails[name as MetricName] : undefined
}
