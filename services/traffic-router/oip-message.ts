/**
 * Open Inference Protocol messages as bytes. The router reads the few fields it needs and never a tensor; it renames
 * model, version and id by appending those fields, because of a singular field that comes twice the last value counts.
 */
import { Code, Failure } from '@slipway/rpc'
import { FieldReader, VARINT } from './wire-reader.ts'
import { FieldWriter } from './wire-writer.ts'

/** Request parameter that names who is answered, for sticky assignment. */
export const ROUTING_KEY_PARAMETER = 'routing_key'

/** What the router reads of a ModelInferRequest. */
export interface ScannedRequest {
  modelName: string
  modelVersion: string
  id: string
  routingKey: string
  /** The caller's `timeout` parameter in microseconds; Infinity when there is none. */
  timeoutMicros: number
}

/** Reads name, version, id and routing key of a ModelInferRequest. Throws MalformedMessage on bytes that are none. */
export function scanInferRequest(bytes: Buffer): ScannedRequest {
  const reader = new FieldReader(bytes)
  const scanned = { modelName: '', modelVersion: '', id: '', routingKey: '', timeoutMicros: Number.POSITIVE_INFINITY }
  while (reader.next()) {
    if (reader.field === 1) scanned.modelName = reader.text()
    else if (reader.field === 2) scanned.modelVersion = reader.text()
    else if (reader.field === 3) scanned.id = reader.text()
    else if (reader.field === 4) {
      const parameter = readParameter(reader.message())
      if (parameter.name === ROUTING_KEY_PARAMETER) scanned.routingKey = String(parameter.value)
      else if (parameter.name === 'timeout' && Number(parameter.value) > 0)
        scanned.timeoutMicros = Number(parameter.value)
    }
  }
  return scanned
}

/** One entry of a `parameters` map; doubles are left out. */
function readParameter(entry: FieldReader): { name: string; value: string | number | bigint } {
  let name = ''
  let value: string | number | bigint = ''
  while (entry.next()) {
    if (entry.field === 1) name = entry.text()
    else if (entry.field === 2) {
      const choice = entry.message()
      while (choice.next()) {
        if (choice.field === 3) value = choice.text()
        else if (choice.wireType === VARINT) value = choice.integer()
      }
    }
  }
  return { name, value }
}

const writer = new FieldWriter()

/** How a request goes on to inference. */
export interface ForwardedNames {
  readonly model: string
  readonly version: string
  readonly id: string
  /** What is left of the request's time; 0 for no end. */
  readonly timeoutMicros: number
  /** W3C trace context; empty for none. */
  readonly traceparent: string
}

/** A request with another model name, version, id, timeout and trace context. */
export function renamedRequest(request: Uint8Array, names: ForwardedNames): Buffer {
  writer.clear()
  writeNamesOfRequest(writer, names)
  return writer.takeAfter(request)
}

/** Writes the fields by which inference knows a request. */
export function writeNamesOfRequest(target: FieldWriter, names: ForwardedNames): void {
  target.text(1, names.model)
  target.text(2, names.version)
  target.text(3, names.id)
  if (names.timeoutMicros > 0) writeIntegerParameter(target, 'timeout', Math.ceil(names.timeoutMicros))
  if (names.traceparent !== '') writeTextParameter(target, 'traceparent', names.traceparent)
}

/** A text parameter as bytes, to be appended to a request or an answer. */
export function textParameterField(name: string, text: string): Buffer {
  writer.clear()
  writeTextParameter(writer, name, text)
  return writer.take()
}

/** An answer as the caller of an endpoint sees it: endpoint as model name, the caller's id, and parameters appended. */
export function renamedResponse(
  response: Uint8Array,
  names: { model: string; id: string },
  parameters: { predictionId: string; encoded: Uint8Array },
): Buffer {
  writeNames(names, parameters)
  return writer.takeAfter(response)
}

/** The same as one message of a stream. */
export function renamedStreamResponse(
  response: Uint8Array,
  names: { model: string; id: string },
  parameters: { predictionId: string; encoded: Uint8Array },
): Buffer {
  writeNames(names, parameters)
  return writer.takeWrappedAfter(2, response)
}

/** A failed request of a stream: the message, the caller's id, and the failure in parameters. */
export function streamFailure(id: string, failure: Failure): Buffer {
  writer.clear()
  writer.text(1, failure.message)
  const opened = writer.open(2)
  if (id !== '') writer.text(3, id)
  writeIntegerParameter(writer, 'error_code', failure.code)
  writeTextParameter(writer, 'error_reason', failure.reason)
  if (failure.retryAfterMs !== undefined)
    writeIntegerParameter(writer, 'retry_after_ms', Math.ceil(failure.retryAfterMs))
  writer.close(opened)
  return writer.take()
}

/** The failure that a stream's error stands for; UNKNOWN when the server says no more than a text. */
export function failureOfStream(answer: ScannedStreamResponse): Failure {
  let code: Code = Code.UNKNOWN
  let reason = 'INFERENCE_FAILED'
  let retryAfterMs: number | undefined
  const reader = new FieldReader(answer.response)
  while (reader.next()) {
    if (reader.field !== 4) continue
    const { name, value } = readParameter(reader.message())
    if (name === 'error_code') code = Object.values(Code).find((each) => each === Number(value)) ?? code
    else if (name === 'error_reason') reason = String(value)
    else if (name === 'retry_after_ms') retryAfterMs = Number(value)
  }
  return new Failure(code, reason, answer.errorMessage, retryAfterMs === undefined ? {} : { retryAfterMs })
}

function writeIntegerParameter(target: FieldWriter, name: string, integer: number): void {
  const entry = target.open(4)
  target.text(1, name)
  const value = target.open(2)
  target.integer(2, integer)
  target.close(value)
  target.close(entry)
}

function writeNames(
  names: { model: string; id: string },
  parameters: { predictionId: string; encoded: Uint8Array },
): void {
  writer.clear()
  writer.text(1, names.model)
  writer.text(3, names.id)
  writeTextParameter(writer, 'prediction_id', parameters.predictionId)
  writer.encoded(parameters.encoded)
}

function writeTextParameter(target: FieldWriter, name: string, text: string): void {
  const entry = target.open(4)
  target.text(1, name)
  const value = target.open(2)
  target.text(3, text)
  target.close(value)
  target.close(entry)
}

/** One message of an answering stream. */
export interface ScannedStreamResponse {
  /** Empty when the request was answered. */
  readonly errorMessage: string
  readonly id: string
  /** The bytes of the ModelInferResponse inside, not copied. */
  readonly response: Buffer
}

const EMPTY = Buffer.alloc(0)

/** Reads error, id and answer of a ModelStreamInferResponse. Throws MalformedMessage on bytes that are none. */
export function scanStreamResponse(bytes: Buffer): ScannedStreamResponse {
  const reader = new FieldReader(bytes)
  let errorMessage = ''
  let response: Buffer = EMPTY
  let id = ''
  while (reader.next()) {
    if (reader.field === 1) errorMessage = reader.text()
    else if (reader.field === 2) {
      response = reader.bytes()
      const inner = reader.message()
      while (inner.next()) if (inner.field === 3) id = inner.text()
    }
  }
  return { errorMessage, id, response }
}
