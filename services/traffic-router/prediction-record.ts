/** What was answered, as records for the event bus. */
import { cloudEventHeader, type EventRecord, protobufContentType, topics } from '@slipway/events'
import { FeatureType } from '@slipway/proto/slipway/registry/v1/model'
import { Failure } from '@slipway/rpc'
import type { Attribution } from './attributions.ts'
import { readFeatureRows } from './oip-features.ts'
import type { Plan } from './plan.ts'
import { PRESENT } from './predict-message.ts'
import type { ServedEndpoint, ServedVariant } from './routing-table.ts'
import { type NamedOutputs, readOutputs, type Scalar } from './tensors.ts'
import { MalformedMessage } from './wire-reader.ts'
import { FieldWriter } from './wire-writer.ts'

/** Microseconds spent by stage. */
export interface StageMicros {
  readonly total: number
  readonly features: number
  readonly assemble: number
  readonly inference: number
}

/** One answered prediction. */
export interface AnsweredPrediction {
  readonly endpoint: ServedEndpoint
  readonly variant: ServedVariant
  readonly plan: Plan
  readonly bucket: number
  readonly propensity: number
  readonly predictionId: string
  readonly eventTimeMicros: number
  readonly answerTimeMicros: number
  readonly values: readonly (Scalar | undefined)[]
  readonly statuses: Uint8Array
  /** Event times of stored values; undefined when all came with the request. */
  readonly timesMicros: readonly (number | bigint)[] | undefined
  readonly outputs: NamedOutputs
  /** The row of the outputs. */
  readonly row: number
  readonly stages: StageMicros
  /** Trace context of the prediction. */
  readonly headers: Readonly<Record<string, string>> | undefined
  /** What moved the first output, where that was asked. */
  readonly attribution?: Attribution
}

/** One request in the Open Inference Protocol, with its answer or its failure. */
export interface AnsweredRequest {
  readonly endpoint: ServedEndpoint
  readonly variant: ServedVariant
  readonly bucket: number
  /** Probability with which the variant was chosen; 1 when the caller asked for the version. */
  readonly propensity: number
  readonly predictionId: string
  readonly requestTimeMicros: number
  readonly totalMicros: number
  readonly request: Buffer
  readonly response: Buffer
  readonly code: number
  readonly headers: Readonly<Record<string, string>> | undefined
  /** What moved the first output of each row, where that was asked. */
  readonly attributions?: readonly Attribution[]
}

const writer = new FieldWriter()

/** A prediction as a record of `slipway.predictions.v1`. */
export function predictionRecord(answered: AnsweredPrediction): EventRecord {
  const { endpoint, variant, stages } = answered
  writer.clear()
  writer.text(1, answered.predictionId)
  writer.text(2, endpoint.name)
  writer.text(3, variant.name)
  writer.text(4, variant.modelVersion)
  writer.text(5, variant.digest)
  writer.double(6, answered.propensity)
  writer.integer(7, answered.bucket)
  writer.double(8, endpoint.predictionSamplingRate)
  writeTimestamp(9, answered.eventTimeMicros)
  writeTimestamp(10, answered.answerTimeMicros)
  writeFeatures(answered)
  const outputs = writer.open(16)
  const width = answered.plan.outputs.length
  for (let index = 0; index < width; index++)
    writer.rawDouble(answered.outputs.numbers[answered.row * width + index] ?? Number.NaN)
  writer.close(outputs)
  const micros = writer.open(17)
  writer.integer(1, stages.total)
  writer.integer(2, stages.features)
  writer.integer(3, stages.assemble)
  writer.integer(4, stages.inference)
  writer.close(micros)
  if (answered.attribution !== undefined) writeAttribution(answered.attribution, endpoint.explainSamplingRate)
  return record(topics.predictions, answered.predictionId, answered)
}

/** The rows of a request as records of `slipway.predictions.v1`; none when request or answer are not what is bound. */
export function rowRecords(answered: AnsweredRequest, plan: Plan): readonly EventRecord[] {
  const rows = readFeatureRows(answered.request, plan)
  if (rows === undefined) return []
  const outputs = outputsOf(answered.response, plan, rows.length)
  if (outputs === undefined) return []
  const { requestTimeMicros, totalMicros, attributions } = answered
  return rows.map(({ values, statuses }, row) =>
    predictionRecord({
      ...answered,
      plan,
      predictionId: rows.length === 1 ? answered.predictionId : `${answered.predictionId}:${row}`,
      eventTimeMicros: requestTimeMicros,
      answerTimeMicros: requestTimeMicros + totalMicros,
      values,
      statuses,
      timesMicros: undefined,
      outputs,
      row,
      ...(attributions?.[row] === undefined ? {} : { attribution: attributions[row] }),
      stages: { total: totalMicros, features: 0, assemble: 0, inference: totalMicros },
    }),
  )
}

function outputsOf(response: Buffer, plan: Plan, rows: number): NamedOutputs | undefined {
  try {
    return readOutputs(response, plan, rows)
  } catch (error) {
    if (error instanceof Failure || error instanceof MalformedMessage) return undefined
    throw error
  }
}

/** A request as a record of `slipway.requests.v1`. */
export function requestRecord(answered: AnsweredRequest): EventRecord {
  const { endpoint, variant } = answered
  writer.clear()
  writer.text(1, answered.predictionId)
  writer.text(2, endpoint.name)
  writer.text(3, variant.name)
  writer.text(4, variant.modelVersion)
  writer.text(5, variant.digest)
  writer.double(6, endpoint.requestSamplingRate)
  writeTimestamp(7, answered.requestTimeMicros)
  writer.bytes(8, answered.request)
  writer.bytes(9, answered.response)
  if (answered.code !== 0) writer.integer(10, answered.code)
  return record(topics.requests, answered.predictionId, answered)
}

function writeAttribution({ values, baseValue }: Attribution, rate: number): void {
  const opened = writer.open(18)
  for (const value of values) writer.rawDouble(value)
  writer.close(opened)
  writer.double(19, baseValue)
  writer.double(20, rate)
}

function writeFeatures({ plan, values, statuses, timesMicros }: AnsweredPrediction): void {
  writer.bytes(11, statuses)
  const doubles = writer.open(12)
  for (let index = 0; index < values.length; index++) {
    if (plan.features[index]?.type === FeatureType.DOUBLE) writer.rawDouble(numberOf(values[index], Number.NaN))
  }
  writer.close(doubles)
  const int64s = writer.open(13)
  for (let index = 0; index < values.length; index++) {
    const type = plan.features[index]?.type
    if (type === FeatureType.INT64 || type === FeatureType.BOOL) writer.packedInteger(integerOf(values[index]))
  }
  writer.close(int64s)
  for (let index = 0; index < values.length; index++) {
    if (plan.features[index]?.type === FeatureType.STRING) writer.text(14, String(values[index] ?? ''))
  }
  if (timesMicros === undefined) return
  const times = writer.open(15)
  for (let index = 0; index < values.length; index++)
    writer.packedInteger(statuses[index] === PRESENT ? (timesMicros[index] ?? 0) : 0)
  writer.close(times)
}

function numberOf(value: Scalar | undefined, missing: number): number {
  return value === undefined || typeof value === 'string' ? missing : Number(value)
}

function integerOf(value: Scalar | undefined): number | bigint {
  if (value === undefined || typeof value === 'string') return 0
  return typeof value === 'bigint' || Number.isSafeInteger(value) ? value : 0
}

function writeTimestamp(field: number, micros: number): void {
  const seconds = Math.floor(micros / 1_000_000)
  const opened = writer.open(field)
  writer.signedInteger(1, seconds)
  writer.integer(2, Math.round(micros - seconds * 1_000_000) * 1_000)
  writer.close(opened)
}

function record(
  topic: typeof topics.predictions | typeof topics.requests,
  key: string,
  { endpoint, headers }: Pick<AnsweredPrediction, 'endpoint' | 'headers'>,
): EventRecord {
  return {
    topic: topic.name,
    key,
    value: writer.take(),
    headers: {
      [cloudEventHeader.specVersion]: '1.0',
      [cloudEventHeader.id]: key,
      [cloudEventHeader.source]: `/slipway/traffic-router/${endpoint.id}`,
      [cloudEventHeader.type]: topic.schema.typeName,
      [cloudEventHeader.time]: new Date().toISOString(),
      [cloudEventHeader.contentType]: protobufContentType,
      ...headers,
    },
  }
}
