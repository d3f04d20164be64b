/** From the message that answers a prediction to its HTTP form: JSON, with the outputs that were asked for as binary data behind it. */
import { fromBinary } from '@bufbuild/protobuf'
import {
  type InferParameter,
  type ModelInferResponse,
  type ModelInferResponse_InferOutputTensor,
  ModelInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'
import { invalid } from '../refusals.ts'
import { httpRefusal } from './failures.ts'
import { type AnswerForm, HEADER_LENGTH } from './infer-request.ts'
import { hasJsonForm, tensorText } from './json-tensors.ts'
import type { HttpLimits } from './limits.ts'

/** A body and what is said of it. */
export interface HttpAnswer {
  readonly body: Buffer
  readonly headers: Readonly<Record<string, string>>
}

const jsonHeaders = { 'content-type': 'application/json' }

/** An answer in JSON. */
export function jsonAnswer(text: string): HttpAnswer {
  return { body: Buffer.from(text), headers: jsonHeaders }
}

/** Whether an output goes as binary data. */
export function isBinaryOutput({ isBinary, byOutput }: AnswerForm, name: string): boolean {
  return byOutput.get(name) ?? isBinary
}

/** Throws INVALID_ARGUMENT when an output is wanted as JSON whose datatype has no JSON form. */
export function checkJsonForm(
  outputs: Iterable<{ readonly name: string; readonly datatype: string }>,
  form: AnswerForm,
): void {
  for (const { name, datatype } of outputs) {
    if (isBinaryOutput(form, name) || hasJsonForm(datatype)) continue
    throw invalid('outputs', `${datatype} of output '${name}' has no JSON form: ask for it with binary_data`)
  }
}

/** Writes an answer. */
export function writeInferAnswer(
  message: Uint8Array,
  form: AnswerForm,
  { maxAnswerBytes, maxJsonBytes }: Pick<HttpLimits, 'maxAnswerBytes' | 'maxJsonBytes'>,
): HttpAnswer {
  if (message.length > maxAnswerBytes) throw httpRefusal.answerTooLarge(maxAnswerBytes)
  const response = fromBinary(ModelInferResponseSchema, message)
  checkJsonForm(response.outputs, form)
  const binary: Uint8Array[] = []
  let jsonBytes = 0
  const outputs = response.outputs.map((output, index) => {
    const raw = response.rawOutputContents[index] ?? new Uint8Array()
    if (isBinaryOutput(form, output.name)) {
      binary.push(raw)
      return outputText(output, `"parameters":${parametersText(output.parameters, raw.length)}`)
    }
    jsonBytes += raw.length
    if (jsonBytes > maxJsonBytes) {
      const text = `the outputs are larger than the ${maxJsonBytes} bytes that go as JSON: ask for them with binary_data`
      throw invalid('outputs', text)
    }
    return outputText(output, `"data":${tensorText(output.datatype, raw)}`)
  })
  const json = Buffer.from(headText(response, outputs))
  if (binary.length === 0) return { body: json, headers: jsonHeaders }
  return {
    body: Buffer.concat([json, ...binary]),
    headers: { 'content-type': 'application/octet-stream', [HEADER_LENGTH]: String(json.length) },
  }
}

function headText({ modelName, modelVersion, id, parameters }: ModelInferResponse, outputs: readonly string[]): string {
  const names = `"model_name":${JSON.stringify(modelName)},"model_version":${JSON.stringify(modelVersion)}`
  const idText = id === '' ? '' : `,"id":${JSON.stringify(id)}`
  const parametersPart = Object.keys(parameters).length === 0 ? '' : `,"parameters":${parametersText(parameters)}`
  return `{${names}${idText}${parametersPart},"outputs":[${outputs.join(',')}]}`
}

function outputText({ name, datatype, shape }: ModelInferResponse_InferOutputTensor, content: string): string {
  return `{"name":${JSON.stringify(name)},"datatype":${JSON.stringify(datatype)},"shape":[${shape.join(',')}],${content}}`
}

function parametersText(parameters: Readonly<Record<string, InferParameter>>, binaryBytes?: number): string {
  const entries = Object.entries(parameters).map(
    ([
      key,
      {
        parameterChoice: { value },
      },
    ]) => {
      // A bigint has all its digits this way; a number that JSON does not have is null.
      return `${JSON.stringify(key)}:${typeof value === 'bigint' ? value : (JSON.stringify(value) ?? 'null')}`
    },
  )
  if (binaryBytes !== undefined) entries.push(`"binary_data_size":${binaryBytes}`)
  return `{${entries.join(',')}}`
}
