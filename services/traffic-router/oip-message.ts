/**
 * Open Inference Protocol messages as bytes. The router reads the few fields it needs and never a tensor; it renames
 * model, version and id by appending those fields, because of a singular field that comes twice the last value counts.
 */
import { FieldReader } from './wire-reader.ts'
import { FieldWriter } from './wire-writer.ts'

/** Request parameter that names who is answered, for sticky assignment. */
export const ROUTING_KEY_PARAMETER = 'routing_key'

/** What the router reads of a ModelInferRequest. */
export interface ScannedRequest {
  readonly modelName: string
  readonly modelVersion: string
  readonly id: string
  readonly routingKey: string
}

/** Reads name, version, id and routing key of a ModelInferRequest. Throws MalformedMessage on bytes that are none. */
export function scanInferRequest(bytes: Buffer): ScannedRequest {
  const reader = new FieldReader(bytes)
  let modelName = ''
  let modelVersion = ''
  let id = ''
  let routingKey = ''
  while (reader.next()) {
    if (reader.field === 1) modelName = reader.text()
    else if (reader.field === 2) modelVersion = reader.text()
    else if (reader.field === 3) id = reader.text()
    else if (reader.field === 4) routingKey = textParameter(reader.message(), ROUTING_KEY_PARAMETER) ?? routingKey
  }
  return { modelName, modelVersion, id, routingKey }
}

/** The text of a parameter's map entry when it has this name. */
function textParameter(entry: FieldReader, name: string): string | undefined {
  let key = ''
  let text: string | undefined
  while (entry.next()) {
    if (entry.field === 1) key = entry.text()
    else if (entry.field === 2) {
      const value = entry.message()
      while (value.next()) if (value.field === 3) text = value.text()
    }
  }
  return key === name ? text : undefined
}

const writer = new FieldWriter()

/** A request with another model name, version and id, and a timeout for the server, 0 for none. */
export function renamedRequest(
  request: Uint8Array,
  names: { model: string; version: string; id: string; timeoutMicros?: number },
): Buffer {
  writer.clear()
  writer.text(1, names.model)
  writer.text(2, names.version)
  writer.text(3, names.id)
  if (names.timeoutMicros !== undefined && names.timeoutMicros > 0) writeTimeout(writer, names.timeoutMicros)
  return writer.takeAfter(request)
}

/** Appends the `timeout` parameter that servers of the protocol know, in microseconds. */
export function writeTimeout(target: FieldWriter, timeoutMicros: number): void {
  const entry = target.open(4)
  target.text(1, 'timeout')
  const value = target.open(2)
  target.integer(2, Math.ceil(timeoutMicros))
  target.close(value)
  target.close(entry)
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

/** A failed request of a stream: the message and the caller's id. */
export function streamFailure(id: string, message: string): Buffer {
  writer.clear()
  writer.text(1, message)
  const opened = writer.open(2)
  if (id !== '') writer.text(3, id)
  writer.close(opened)
  return writer.take()
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
