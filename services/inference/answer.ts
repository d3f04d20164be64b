/** From the outputs of a batch to the answers of its requests. */
import { create, toBinary } from '@bufbuild/protobuf'
import type { Datatype } from '@slipway/onnx'
import {
  type InferTensorContents,
  type ModelInferResponse,
  ModelInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'
import type { WorkBatch } from './batcher.ts'
import { copyBytes } from './bytes.ts'
import type { BatchResult, OutputView } from './executors/executor.ts'
import { skipStrings } from './raw-tensors.ts'
import { refusal } from './refusals.ts'
import { elements } from './signature.ts'
import { unpackTyped } from './typed-tensors.ts'
import { type Envelope, fieldBytes, writeFieldHead } from './wire.ts'
import type { AnswerPart, Group } from './work-queue.ts'

/** Name of the answer's parameter that carries the version's digest. */
export const DIGEST_PARAMETER = 'slipway_digest'

const ID_FIELD = 3
const RAW_FIELD = 6
const STREAM_RESPONSE_FIELD = 2

/** Name of the answer's parameter that says that no other follows for the same request. */
const FINAL_RESPONSE_PARAMETER = 'triton_final_response'

const finalResponse = { [FINAL_RESPONSE_PARAMETER]: { parameterChoice: { case: 'boolParam' as const, value: true } } }
const finalResponseBytes = toBinary(
  ModelInferResponseSchema,
  create(ModelInferResponseSchema, { parameters: finalResponse }),
)

/** A head that says as well that this is a request's last answer; every request has one. */
export function withFinalResponse(head: Buffer): Buffer {
  return Buffer.concat([head, finalResponseBytes])
}

/** Who answers. */
export interface Answerer {
  readonly model: string
  readonly number: string
  readonly digest: string
}

/** Everything of an answer that is the same for all requests with one plan and outputs of one shape. */
export interface AnswerHead {
  readonly bytes: Buffer
  /** The dimensions of each output that it was made for. */
  readonly dims: readonly (readonly number[])[]
}

/**
 * Gives each member of a batch its part of the outputs. False, and nobody has been answered, when there are several members and
 * the outputs do not have a row for each row of the inputs.
 */
export function answerBatch({ group, members, rows: batchRows }: WorkBatch, { outputs }: BatchResult): boolean {
  const hasRows = group.batchable && outputs.every(({ dims }) => dims[0] === batchRows)
  if (members.length > 1 && !hasRows) return false
  const starts = outputs.map(() => 0)
  const ends = outputs.map(({ bytes }) => bytes.length)
  for (const member of members) {
    if (hasRows) {
      for (let index = 0; index < outputs.length; index++) {
        const output = outputs[index] as OutputView
        const datatype = group.outputDatatypes[index] as Datatype
        ends[index] = rowsEnd(output, datatype, starts[index] as number, member.rows, batchRows)
      }
    }
    if (member.isCancelled) member.fail(refusal.cancelled())
    else member.answer(outputs, { starts, ends, rows: hasRows ? member.rows : undefined })
    for (let index = 0; index < ends.length; index++) starts[index] = ends[index] as number
  }
  return true
}

/** Where the next `rows` rows of an output end that begin at `start`. */
function rowsEnd(output: OutputView, datatype: Datatype, start: number, rows: number, batchRows: number): number {
  if (datatype === 'BYTES') return skipStrings(output.bytes, start, elements(output.dims, 1) * rows)
  return batchRows === 0 ? start : start + (output.bytes.length / batchRows) * rows
}

/** The head of an answer, the one that is there when it fits. */
export function headFor(
  answerer: Answerer,
  group: Group,
  outputs: readonly OutputView[],
  rows: number | undefined,
  known: AnswerHead | undefined,
): AnswerHead {
  if (known !== undefined && fits(known, outputs, rows)) return known
  const dims = outputs.map((output) => partDims(output, rows))
  const message = create(ModelInferResponseSchema, {
    modelName: answerer.model,
    modelVersion: answerer.number,
    parameters: digestParameter(answerer),
    outputs: group.outputs.map((name, index) => ({
      name,
      datatype: group.outputDatatypes[index] ?? '',
      shape: (dims[index] ?? []).map(BigInt),
    })),
  })
  return { bytes: Buffer.from(toBinary(ModelInferResponseSchema, message)), dims }
}

function fits({ dims: known }: AnswerHead, outputs: readonly OutputView[], rows: number | undefined): boolean {
  for (let index = 0; index < outputs.length; index++) {
    const { dims } = outputs[index] as OutputView
    const expected = known[index]
    if (expected === undefined || expected.length !== dims.length) return false
    for (let axis = 0; axis < dims.length; axis++) {
      if (expected[axis] !== (axis === 0 && rows !== undefined ? rows : dims[axis])) return false
    }
  }
  return true
}

function partDims({ dims }: OutputView, rows: number | undefined): readonly number[] {
  return rows === undefined ? dims : [rows, ...dims.slice(1)]
}

function digestParameter({ digest }: Answerer) {
  return { [DIGEST_PARAMETER]: { parameterChoice: { case: 'stringParam' as const, value: digest } } }
}

/** Writes an answer in raw form: head, the request's id, its part of the outputs; wrapped as a message of a stream if asked for. */
export function encodeRaw(
  head: Buffer,
  request: Buffer,
  { idStart, idEnd }: Pick<Envelope, 'idStart' | 'idEnd'>,
  outputs: readonly OutputView[],
  { starts, ends }: AnswerPart,
  isStream: boolean,
): Buffer {
  const idLength = idEnd - idStart
  let length = head.length + (idLength === 0 ? 0 : fieldBytes(idLength))
  for (let index = 0; index < outputs.length; index++) {
    length += fieldBytes((ends[index] as number) - (starts[index] as number))
  }
  const message = Buffer.allocUnsafe(isStream ? fieldBytes(length) : length)
  let at = isStream ? writeFieldHead(message, 0, STREAM_RESPONSE_FIELD, length) : 0
  at += head.copy(message, at)
  if (idLength > 0) {
    at = writeFieldHead(message, at, ID_FIELD, idLength)
    at += copyBytes(request, idStart, idEnd, message, at)
  }
  for (let index = 0; index < outputs.length; index++) {
    const start = starts[index] as number
    const end = ends[index] as number
    at = writeFieldHead(message, at, RAW_FIELD, end - start)
    at += copyBytes((outputs[index] as OutputView).bytes, start, end, message, at)
  }
  return message
}

/** An answer in typed form, for a caller who asked for it; raw when an output's datatype has no typed form. */
export function typedResponse(
  answerer: Answerer,
  id: string,
  group: Group,
  outputs: readonly OutputView[],
  { starts, ends, rows }: AnswerPart,
  saysFinal: boolean,
): ModelInferResponse {
  const raws = outputs.map(({ bytes }, index) => Buffer.from(bytes.subarray(starts[index], ends[index])))
  const contents = raws.map((raw, index) => unpackTyped(group.outputDatatypes[index] ?? 'BYTES', raw))
  const isTyped = contents.every((value): value is InferTensorContents => value !== undefined)
  return create(ModelInferResponseSchema, {
    modelName: answerer.model,
    modelVersion: answerer.number,
    id,
    parameters: { ...digestParameter(answerer), ...(saysFinal ? finalResponse : {}) },
    outputs: outputs.map((output, index) => {
      const value = isTyped ? contents[index] : undefined
      return {
        name: group.outputs[index] ?? '',
        datatype: group.outputDatatypes[index] ?? '',
        shape: partDims(output, rows).map(BigInt),
        ...(value === undefined ? {} : { contents: value }),
      }
    }),
    rawOutputContents: isTyped ? [] : raws,
  })
}
