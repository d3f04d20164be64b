/**
 * One Predict call: assign each instance to a variant, read its features, have the variant's version infer, answer.
 *
 * 1. The endpoint is looked up once: all of the call sees the same variants.
 * 2. What is logged is what was answered, and it is handed to the log after the answer.
 */
import { randomUUID } from 'node:crypto'
import { Code, Failure } from '@slipway/rpc'
import type { FeatureReader } from './features.ts'
import type { InferencePool } from './inference-pool.ts'
import { writeNamesOfRequest } from './oip-message.ts'
import type { Plan } from './plan.ts'
import {
  type InstanceHead,
  type InstanceValues,
  PRESENT,
  readInstance,
  readPredictHead,
  writePrediction,
} from './predict-message.ts'
import type { AnsweredPrediction } from './prediction-record.ts'
import { type Assignment, assign, type RoutingTable, type ServedEndpoint, type ServedVariant } from './routing-table.ts'
import { type NamedOutputs, readOutputs, type Scalar, writeInputs } from './tensors.ts'
import type { RequestTrace } from './trace.ts'
import { FieldWriter } from './wire-writer.ts'

/** What predicting needs. */
export interface PredictorOptions {
  readonly table: RoutingTable
  readonly features: Pick<FeatureReader, 'read'>
  readonly pool: Pick<InferencePool, 'nextId' | 'send'>
}

/** How one call is to be answered. */
export interface PredictCall {
  readonly deadlineMs: number
  readonly trace: RequestTrace | undefined
}

/** An answer and what there is to log of it. */
export interface Predicted {
  readonly endpoint: ServedEndpoint
  readonly response: Buffer
  readonly answered: readonly AnsweredPrediction[]
}

interface Row {
  readonly index: number
  readonly head: InstanceHead
  readonly predictionId: string
  readonly assignment: Assignment
  values: (Scalar | undefined)[]
  statuses: Uint8Array
  timesMicros: (number | bigint)[] | undefined
}

interface Batch {
  readonly variant: ServedVariant
  readonly plan: Plan
  readonly rows: Row[]
  outputs: NamedOutputs
  featuresMicros: number
  assembleMicros: number
  inferenceMicros: number
}

const NO_OUTPUTS: NamedOutputs = { numbers: new Float64Array(), texts: undefined }
const writer = new FieldWriter()

/** Answers a PredictRequest in bytes with a PredictResponse in bytes. Throws Failures that name what is wrong. */
export async function predict(options: PredictorOptions, request: Buffer, call: PredictCall): Promise<Predicted> {
  const started = performance.now()
  const arrivedMicros = Date.now() * 1_000
  const head = readPredictHead(request)
  const endpoint = options.table.get(head.endpoint)
  const batches = assignRows(endpoint, head.instances)
  const only = batches.length === 1 ? batches[0] : undefined
  if (only !== undefined) await answerBatch(options, request, call, only)
  else await Promise.all(batches.map(async (batch) => await answerBatch(options, request, call, batch)))
  const response = encodeResponse(batches, head.instances.length)
  const totalMicros = micros(started)
  const answered = batches.flatMap((batch) =>
    batch.rows.map((row, index) => ({
      endpoint,
      variant: batch.variant,
      plan: batch.plan,
      bucket: row.assignment.bucket,
      propensity: batch.variant.propensity,
      predictionId: row.predictionId,
      eventTimeMicros: row.head.eventTimeMicros ?? arrivedMicros,
      answerTimeMicros: arrivedMicros + totalMicros,
      values: row.values,
      statuses: row.statuses,
      timesMicros: row.timesMicros,
      outputs: batch.outputs,
      row: index,
      stages: {
        total: totalMicros,
        features: batch.featuresMicros,
        assemble: batch.assembleMicros,
        inference: batch.inferenceMicros,
      },
      headers: call.trace?.headers,
    })),
  )
  return { endpoint, response, answered }
}

/** Gives each instance its variant, and puts those of one variant together. */
function assignRows(endpoint: ServedEndpoint, instances: readonly InstanceHead[]): Batch[] {
  const batches: Batch[] = []
  for (let index = 0; index < instances.length; index++) {
    const head = instances[index] as InstanceHead
    const predictionId = head.predictionId === '' ? randomUUID() : head.predictionId
    const assignment = assign(endpoint, head.routingKey === '' ? predictionId : head.routingKey)
    const row: Row = {
      index,
      head,
      predictionId,
      assignment,
      values: [],
      statuses: new Uint8Array(),
      timesMicros: undefined,
    }
    const batch = batches.find((each) => each.variant === assignment.variant)
    if (batch === undefined) batches.push(newBatch(assignment.variant, row))
    else batch.rows.push(row)
  }
  return batches
}

function newBatch(variant: ServedVariant, row: Row): Batch {
  if ('problem' in variant.planned) {
    const message = `${variant.modelVersion} cannot predict from features: ${variant.planned.problem}`
    throw new Failure(Code.FAILED_PRECONDITION, 'NO_FEATURE_BINDINGS', message, {
      metadata: { version: variant.modelVersion },
    })
  }
  const plan = variant.planned.plan
  return { variant, plan, rows: [row], outputs: NO_OUTPUTS, featuresMicros: 0, assembleMicros: 0, inferenceMicros: 0 }
}

async function answerBatch(options: PredictorOptions, request: Buffer, call: PredictCall, batch: Batch): Promise<void> {
  const started = performance.now()
  await readFeatures(options, request, call, batch)
  const read = performance.now()
  const id = options.pool.nextId()
  const message = encodeInference(batch, id, call)
  const assembled = performance.now()
  const response = await infer(options.pool, id, message, call.deadlineMs)
  batch.outputs = readOutputs(response, batch.plan, batch.rows.length)
  batch.featuresMicros = Math.round((read - started) * 1_000)
  batch.assembleMicros = Math.round((assembled - read) * 1_000)
  batch.inferenceMicros = micros(assembled)
}

async function infer(pool: PredictorOptions['pool'], id: string, message: Buffer, deadlineMs: number): Promise<Buffer> {
  return await new Promise((resolve, reject) => {
    pool.send(id, message, deadlineMs, (failure, response) => {
      if (failure === undefined) resolve(response)
      else reject(failure)
    })
  })
}

/** Takes the values of the request and reads what it lacks. */
async function readFeatures(
  options: PredictorOptions,
  request: Buffer,
  call: PredictCall,
  batch: Batch,
): Promise<void> {
  const lacking: { row: Row; entityRow: Buffer }[] = []
  for (const row of batch.rows) {
    const given = readInstance(request, row.head, batch.plan, row.index)
    row.values = given.values
    row.statuses = given.statuses
    if (lacksStored(batch.plan, given)) lacking.push({ row, entityRow: given.entityRow })
  }
  if (lacking.length === 0) return
  await Promise.all(lacking.map(async ({ row, entityRow }) => await readStored(options, call, batch, row, entityRow)))
}

/** Whether a feature of the store did not come with the request. */
function lacksStored(plan: Plan, { values }: InstanceValues): boolean {
  for (const index of plan.storedFeatures) if (values[index] === undefined) return true
  return false
}

async function readStored(
  { features }: PredictorOptions,
  { deadlineMs, trace }: PredictCall,
  { plan, variant }: Batch,
  row: Row,
  entityRow: Buffer,
): Promise<void> {
  if (entityRow.length === 0) {
    const wanted = plan.storedFeatures
      .map((index) => plan.features[index]?.reference)
      .slice(0, 8)
      .join(', ')
    throw Failure.invalid(`instances[${row.index}].entity_keys`, `are needed to read ${wanted}`)
  }
  const vector = await features.read({
    featureService: variant.featureService,
    plan,
    entityRow,
    asOfMicros: row.head.eventTimeMicros,
    deadlineMs,
    trace: trace?.span.isRecording() === true ? trace : undefined,
  })
  const times = new Array<number | bigint>(plan.features.length).fill(0)
  for (let position = 0; position < plan.storedFeatures.length; position++) {
    const index = plan.storedFeatures[position] as number
    if (row.statuses[index] === PRESENT) continue
    row.values[index] = vector.values[position]
    row.statuses[index] = vector.statuses[position] ?? 0
    times[index] = vector.timesMicros[position] ?? 0
  }
  row.timesMicros = times
}

function encodeInference({ variant, plan, rows }: Batch, id: string, call: PredictCall): Buffer {
  const leftMs = call.deadlineMs - Date.now()
  if (leftMs <= 0) throw new Failure(Code.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED', 'the features took all of the time')
  writer.clear()
  writeNamesOfRequest(writer, {
    model: variant.model,
    version: variant.number,
    id,
    timeoutMicros: leftMs * 1_000,
    traceparent: call.trace?.headers.traceparent ?? '',
  })
  writeInputs(writer, plan, rows)
  return writer.take()
}

function encodeResponse(batches: readonly Batch[], count: number): Buffer {
  const places = new Array<{ batch: Batch; row: Row; position: number } | undefined>(count)
  for (const batch of batches) {
    for (let position = 0; position < batch.rows.length; position++) {
      const row = batch.rows[position] as Row
      places[row.index] = { batch, row, position }
    }
  }
  writer.clear()
  for (const place of places) {
    if (place === undefined) continue
    const { batch, row, position } = place
    writePrediction(writer, {
      predictionId: row.predictionId,
      variant: batch.variant,
      plan: batch.plan,
      outputs: batch.outputs,
      row: position,
      statuses: row.statuses,
    })
  }
  return writer.take()
}

function micros(sinceMs: number): number {
  return Math.round((performance.now() - sinceMs) * 1_000)
}
