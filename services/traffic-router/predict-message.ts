/**
 * Predict requests and answers as bytes. A request is read in two steps: first what decides the variant, then, once the
 * version is known, each feature straight into its place in the version's order.
 */
import { Failure } from '@slipway/rpc'
import { MAX_ECHOED_CHARACTERS, MAX_ENTITY_KEYS, MAX_INSTANCES, MAX_ROUTING_KEY_CHARACTERS } from './limits.ts'
import type { Plan, PlannedFeature } from './plan.ts'
import type { ServedVariant } from './routing-table.ts'
import type { NamedOutputs, Scalar } from './tensors.ts'
import { FieldReader, MalformedMessage } from './wire-reader.ts'
import type { FieldWriter } from './wire-writer.ts'

/** What decides the variant of an instance, and where its values are. */
export interface InstanceHead {
  predictionId: string
  routingKey: string
  /** Microseconds since the epoch; undefined when the caller did not say. */
  eventTimeMicros: number | undefined
  readonly start: number
  readonly end: number
}

/** A Predict request before its values are read. */
export interface PredictHead {
  readonly endpoint: string
  readonly instances: readonly InstanceHead[]
}

// Statuses of a feature: the numbers of `slipway.features.v1.FeatureStatus` and of the prediction log.

/** The feature has a value. */
export const PRESENT = 1
/** The feature is null. */
export const NULL_VALUE = 2
/** There is no value for the feature. */
export const NOT_FOUND = 3

// The range of a google.protobuf.Timestamp.
const MIN_TIME_MICROS = -62_135_596_800_000_000
const END_TIME_MICROS = 253_402_300_800_000_000
const PREDICTION_ID = /^[A-Za-z0-9_.:-]{8,128}$/
const ENDPOINT = /^endpoints\/[a-z0-9-]+$/

/** Whether a text may name a prediction. */
export function isPredictionId(text: string): boolean {
  return PREDICTION_ID.test(text)
}

/** Reads what decides the variants. Throws INVALID_ARGUMENT naming the field that breaks a rule of the proto. */
export function readPredictHead(bytes: Buffer): PredictHead {
  const reader = new FieldReader(bytes)
  let endpoint = ''
  let routingKey = ''
  const instances: InstanceHead[] = []
  while (reader.next()) {
    if (reader.field === 1) endpoint = reader.text()
    else if (reader.field === 2) instances.push(readInstanceHead(reader, instances.length))
    else if (reader.field === 3) routingKey = checkedRoutingKey(reader.text(), 'routing_key')
  }
  if (!ENDPOINT.test(endpoint)) throw Failure.invalid('endpoint', 'must be endpoints/{endpoint}')
  if (instances.length === 0) throw Failure.invalid('instances', 'must have at least one')
  if (instances.length > MAX_INSTANCES) throw Failure.invalid('instances', `must have at most ${MAX_INSTANCES}`)
  for (const instance of instances) if (instance.routingKey === '') instance.routingKey = routingKey
  return { endpoint, instances }
}

function readInstanceHead(outer: FieldReader, index: number): InstanceHead {
  const reader = outer.message()
  const head: InstanceHead = {
    predictionId: '',
    routingKey: '',
    eventTimeMicros: undefined,
    start: outer.start,
    end: outer.end,
  }
  while (reader.next()) {
    if (reader.field === 3) {
      head.predictionId = reader.text()
      if (head.predictionId !== '' && !isPredictionId(head.predictionId))
        throw Failure.invalid(`instances[${index}].prediction_id`, 'must be 8 to 128 of the characters A-Za-z0-9_.:-')
    } else if (reader.field === 4) head.eventTimeMicros = eventTime(reader.message(), index)
    else if (reader.field === 5) head.routingKey = checkedRoutingKey(reader.text(), `instances[${index}].routing_key`)
  }
  return head
}

function checkedRoutingKey(key: string, field: string): string {
  if (key.length <= MAX_ROUTING_KEY_CHARACTERS) return key
  throw Failure.invalid(field, `must have at most ${MAX_ROUTING_KEY_CHARACTERS} characters`)
}

function eventTime(reader: FieldReader, index: number): number {
  const micros = readTimestamp(reader)
  if (micros >= MIN_TIME_MICROS && micros < END_TIME_MICROS) return micros
  throw Failure.invalid(`instances[${index}].event_time`, 'must lie between the years 1 and 9999')
}

function readTimestamp(reader: FieldReader): number {
  let seconds = 0
  let nanos = 0
  while (reader.next()) {
    if (reader.field === 1) seconds = Number(reader.integer())
    else if (reader.field === 2) nanos = Number(reader.integer())
  }
  return seconds * 1_000_000 + Math.floor(nanos / 1_000)
}

/** The features of an instance as they came with the request, and its entity keys. */
export interface InstanceValues {
  /** In the order of the plan; undefined where the request has none or a null. */
  readonly values: (Scalar | undefined)[]
  /** In the order of the plan: PRESENT, NULL_VALUE for a null, NOT_FOUND where the request has none. */
  readonly statuses: Uint8Array
  /** The entity keys as the fields of a `slipway.features.v1.EntityRow`; empty when there are none. */
  readonly entityRow: Buffer
}

/** Reads an instance's values. Features that the version does not have are left out: another version may have them. */
export function readInstance(bytes: Buffer, head: InstanceHead, plan: Plan, index: number): InstanceValues {
  const values = new Array<Scalar | undefined>(plan.features.length)
  const statuses = new Uint8Array(plan.features.length).fill(NOT_FOUND)
  const keys: Buffer[] = []
  const reader = new FieldReader(bytes, head.start, head.end)
  // Callers send features in the same order again and again, mostly that of the bindings.
  let expected = 0
  while (reader.next()) {
    if (reader.field === 1) expected = readFeature(reader.message(), plan, values, statuses, expected, index) + 1
    else if (reader.field === 2) keys.push(entityRowField(reader.bytes()))
  }
  if (keys.length > MAX_ENTITY_KEYS)
    throw Failure.invalid(`instances[${index}].entity_keys`, `must have at most ${MAX_ENTITY_KEYS}`)
  return { values, statuses, entityRow: keys.length === 0 ? NO_KEYS : Buffer.concat(keys) }
}

const NO_KEYS = Buffer.alloc(0)
const MAX_KEY_BYTES = 16 * 1024

/** An entry of `entity_keys` as an entry of `EntityRow.keys`: the same bytes under another field number. */
function entityRowField(entry: Buffer): Buffer {
  if (entry.length > MAX_KEY_BYTES) throw Failure.invalid('entity_keys', `a key has more than ${MAX_KEY_BYTES} bytes`)
  const field = Buffer.allocUnsafe(entry.length + 4)
  field[0] = (1 << 3) | 2
  let at = 1
  let length = entry.length
  while (length > 0x7f) {
    field[at++] = (length & 0x7f) | 0x80
    length >>>= 7
  }
  field[at++] = length
  entry.copy(field, at)
  return field.subarray(0, at + entry.length)
}

/** Reads one feature, most likely the `expected` one, and returns its position; -1 when the version does not have it. */
function readFeature(
  entry: FieldReader,
  plan: Plan,
  values: (Scalar | undefined)[],
  statuses: Uint8Array,
  expected: number,
  instance: number,
): number {
  const name = plan.nameBytes[expected]
  let position: number | undefined
  let value: Scalar | undefined
  while (entry.next()) {
    if (entry.field === 1)
      position = name !== undefined && entry.equals(name) ? expected : plan.featureIndex.get(entry.text())
    else if (entry.field === 2) value = readValue(entry.message(), plan.features[position ?? -1], instance)
  }
  if (position === undefined) return -1
  values[position] = value
  statuses[position] = value === undefined ? NULL_VALUE : PRESENT
  return position
}

/** Reads a Value; booleans are 0 and 1, moments microseconds. Undefined for a null. */
function readValue(reader: FieldReader, feature: PlannedFeature | undefined, instance: number): Scalar | undefined {
  let value: Scalar | undefined
  while (reader.next()) {
    if (reader.field === 1 || reader.field === 2) value = reader.integer()
    else if (reader.field === 3) value = reader.double()
    else if (reader.field === 4) value = reader.text()
    else if (reader.field === 6) value = readTimestamp(reader.message())
    else if (reader.field === 5 && feature !== undefined) {
      const name = feature.name.slice(0, MAX_ECHOED_CHARACTERS)
      throw Failure.invalid(`instances[${instance}].features["${name}"]`, 'bytes cannot be a feature')
    }
  }
  return value
}

/** Writes one Prediction of a PredictResponse. */
export function writePrediction(
  writer: FieldWriter,
  answer: {
    readonly predictionId: string
    readonly variant: ServedVariant
    readonly plan: Plan
    readonly outputs: NamedOutputs
    /** The row of the outputs. */
    readonly row: number
    readonly statuses: Uint8Array
  },
): void {
  const { plan, outputs } = answer
  const opened = writer.open(1)
  writer.text(1, answer.predictionId)
  writer.encoded(answer.variant.answerFields)
  const first = answer.row * plan.outputs.length
  for (let index = 0; index < plan.outputs.length; index++) {
    const output = plan.outputs[index]
    if (output === undefined) continue
    const entry = writer.open(output.isText ? 6 : 5)
    writer.text(1, output.name)
    if (output.isText) writer.text(2, outputs.texts?.[first + index] ?? '')
    else writer.double(2, outputs.numbers[first + index] ?? Number.NaN)
    writer.close(entry)
  }
  for (let index = 0; index < plan.features.length; index++) {
    const status = answer.statuses[index] ?? NOT_FOUND
    if (status === PRESENT) continue
    const entry = writer.open(7)
    writer.text(1, plan.features[index]?.name ?? '')
    writer.integer(2, status)
    writer.close(entry)
  }
  writer.close(opened)
}

/** The failure of bytes that are no message of their kind; other errors as they are. */
export function malformed(error: unknown): unknown {
  return error instanceof MalformedMessage ? Failure.invalid('request', `is not a message: ${error.message}`) : error
}
