import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import {
  AsyncPredictionAnsweredSchema,
  AsyncPredictionRequestedSchema,
} from '@slipway/proto/slipway/events/v1/async_prediction'
import {
  type BatchJobChanged,
  BatchJobChangedSchema,
  BatchPartDueSchema,
} from '@slipway/proto/slipway/events/v1/batch_job'
import {
  type IncidentChanged,
  IncidentChangedSchema,
  type RegistryChanged,
  RegistryChangedSchema,
  type TrainingRequested,
  TrainingRequestedSchema,
} from '@slipway/proto/slipway/events/v1/change'
import {
  FeedbackRecordedSchema,
  PredictionLoggedSchema,
  RequestSampledSchema,
} from '@slipway/proto/slipway/events/v1/prediction'
import { type FeatureRow, FeatureRowSchema, type Value } from '@slipway/proto/slipway/features/v1/value'
import type { TopicSettings } from './bus.ts'

/** A topic whose values are messages of one type. */
export interface Topic<S extends DescMessage> extends TopicSettings {
  readonly schema: S
  /** What the records of one key have in common: those keep their order. */
  readonly key: (message: MessageShape<S>) => string
}

const day = 24 * 3600 * 1000
const gibibyte = 1024 ** 3

/** Slipway's topics: one message each. Few and ordered changes have one partition, streams have four, shared work more. */
export const topics = {
  predictions: topic('slipway.predictions.v1', PredictionLoggedSchema, (message) => message.predictionId),
  requests: topic('slipway.requests.v1', RequestSampledSchema, (message) => message.predictionId),
  feedback: topic('slipway.feedback.v1', FeedbackRecordedSchema, (message) => message.predictionId),
  features: topic('slipway.features.v1', FeatureRowSchema, entityOf),
  asyncRequests: topic('slipway.async-requests.v1', AsyncPredictionRequestedSchema, (message) => message.requestId),
  asyncResults: topic('slipway.async-results.v1', AsyncPredictionAnsweredSchema, (message) => message.requestId),
  registry: changes('slipway.registry.v1', RegistryChangedSchema, modelOf),
  incidents: changes('slipway.incidents.v1', IncidentChangedSchema, endpointOf),
  trainingRequests: changes('slipway.training-requests.v1', TrainingRequestedSchema, trainedModelOf),
  batchJobs: changes('slipway.batch-jobs.v1', BatchJobChangedSchema, (message: BatchJobChanged) => message.job),
  batchParts: {
    ...topic('slipway.batch-parts.v1', BatchPartDueSchema, ({ job, part }) => `${job}/parts/${part}`),
    partitions: 16,
    retentionMs: 30 * day,
  },
} as const

/** Layout of all of Slipway's topics. */
export const topicSettings: readonly TopicSettings[] = Object.values(topics).map(
  ({ name, partitions, retentionMs, retentionBytes }) => ({ name, partitions, retentionMs, retentionBytes }),
)

function topic<S extends DescMessage>(name: string, schema: S, key: (message: MessageShape<S>) => string): Topic<S> {
  return { name, schema, key, partitions: 4, retentionMs: 7 * day, retentionBytes: gibibyte }
}

function changes<S extends DescMessage>(name: string, schema: S, key: (message: MessageShape<S>) => string): Topic<S> {
  return { name, schema, key, partitions: 1, retentionMs: 365 * day, retentionBytes: gibibyte }
}

function endpointOf(message: IncidentChanged): string {
  return message.incident?.endpoint ?? ''
}

function trainedModelOf(message: TrainingRequested): string {
  return message.model
}

/** View and entity: the rows of one entity are applied in order. */
function entityOf(row: FeatureRow): string {
  const keys = Object.entries(row.entityKeys).map(([name, value]) => `${name}=${textOf(value)}`)
  return [row.featureView, ...keys.toSorted()].join('|')
}

function textOf({ kind }: Value): string {
  if (kind.case === 'timestampValue') return `${kind.value.seconds}.${kind.value.nanos}`
  return kind.value instanceof Uint8Array ? Buffer.from(kind.value).toString('base64') : String(kind.value)
}

function modelOf(message: RegistryChanged): string {
  const change = message.change?.change
  switch (change?.case) {
    case 'model':
      return change.value.name
    case 'version':
    case 'alias':
      return change.value.name.split('/').slice(0, 2).join('/')
    case undefined:
      return ''
  }
  return ''
}
