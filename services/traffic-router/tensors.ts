/** Feature values to the tensors of a request, and the tensors of an answer to named outputs. */
import { fromBinary } from '@bufbuild/protobuf'
import { type Element, elementOf } from '@slipway/onnx'
import { type ModelInferResponse, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import { rawContent, textElements } from './contents.ts'
import { MAX_ECHOED_CHARACTERS } from './limits.ts'
import type { Plan, PlannedFeature, PlannedInput } from './plan.ts'
import { FieldReader } from './wire-reader.ts'
import type { FieldWriter } from './wire-writer.ts'

/** A feature's value; true and false are 1 and 0. */
export type Scalar = number | bigint | string

/** The features of one instance, in the order of the plan. */
export interface FeatureRow {
  /** Undefined where there is no value. */
  readonly values: readonly (Scalar | undefined)[]
  /** Where the instance stands in the request, for errors. */
  readonly index: number
}

/** The outputs of several rows, row after row, in the order of the plan. */
export interface NamedOutputs {
  /** NaN where the output is a text. */
  readonly numbers: Float64Array
  /** Texts by the same positions; undefined when no output is one. */
  readonly texts: readonly (string | undefined)[] | undefined
}

/** Writes the inputs of a ModelInferRequest. Throws INVALID_ARGUMENT naming the feature that does not fit. */
export function writeInputs(writer: FieldWriter, plan: Plan, rows: readonly FeatureRow[]): void {
  for (const input of plan.inputs) {
    const tensor = writer.open(5)
    writer.text(1, input.name)
    writer.text(2, input.datatype)
    const shape = writer.open(3)
    writer.packedInteger(rows.length)
    if (input.rank === 2) writer.packedInteger(input.features.length)
    writer.close(shape)
    writer.close(tensor)
  }
  for (const input of plan.inputs) {
    const element = elementOf(input.datatype)
    if (element === undefined) writeTexts(writer, plan, input, rows)
    else writeNumbers(writer, plan, input, element, rows)
  }
}

function writeNumbers(
  writer: FieldWriter,
  plan: Plan,
  input: PlannedInput,
  element: Element,
  rows: readonly FeatureRow[],
): void {
  const { bytes, start } = writer.room(7, rows.length * input.features.length * element.sizeBytes)
  let at = start
  for (const row of rows) {
    for (const index of input.features) {
      const feature = plan.features[index] as PlannedFeature
      const value = row.values[index] ?? replacement(feature, row)
      if (typeof value === 'string') throw misfit(feature, row, 'is a text, the model wants a number')
      if (!element.write(bytes, at, value)) throw misfit(feature, row, `does not fit datatype ${input.datatype}`)
      at += element.sizeBytes
    }
  }
}

function writeTexts(writer: FieldWriter, plan: Plan, input: PlannedInput, rows: readonly FeatureRow[]): void {
  const content = writer.open(7)
  const prefix = Buffer.alloc(4)
  for (const row of rows) {
    for (const index of input.features) {
      const feature = plan.features[index] as PlannedFeature
      const value = row.values[index] ?? replacement(feature, row)
      if (typeof value !== 'string') throw misfit(feature, row, 'is a number, the model wants a text')
      const text = Buffer.from(value)
      prefix.writeUInt32LE(text.length)
      writer.encoded(prefix)
      writer.encoded(text)
    }
  }
  writer.close(content)
}

function replacement(feature: PlannedFeature, row: FeatureRow): number {
  if (feature.missing === 'nan') return Number.NaN
  if (feature.missing === 'default') return feature.defaultValue
  throw misfit(feature, row, 'has no value, and the version refuses to predict without it')
}

function misfit(feature: PlannedFeature, row: FeatureRow, description: string): Failure {
  const name = feature.name.slice(0, MAX_ECHOED_CHARACTERS)
  return Failure.invalid(`instances[${row.index}].features["${name}"]`, description)
}

/** Reads the named outputs of a ModelInferResponse. Throws INTERNAL when the answer is not what the version promised. */
export function readOutputs(response: Buffer, plan: Plan, rows: number): NamedOutputs {
  const tensors = readTensors(response)
  const numbers = new Float64Array(rows * plan.outputs.length)
  let texts: (string | undefined)[] | undefined
  for (const [position, output] of plan.outputs.entries()) {
    const tensor = tensors.find((each) => each.name === output.tensor)
    if (tensor === undefined) throw mismatch(`it has no output ${output.tensor}`)
    if (output.isText) {
      texts ??= new Array<string | undefined>(numbers.length)
      const elements = textElements(tensor.content)
      if (elements === undefined) throw mismatch('a text is cut off')
      const width = elements.length / rows
      if (!Number.isInteger(width) || output.column >= width)
        throw mismatch(`output ${output.tensor} has ${elements.length} texts for ${rows} rows`)
      for (let row = 0; row < rows; row++) {
        numbers[row * plan.outputs.length + position] = Number.NaN
        texts[row * plan.outputs.length + position] = elements[row * width + output.column]
      }
      continue
    }
    const element = elementOf(tensor.datatype)
    if (element === undefined) throw mismatch(`output ${output.tensor} has datatype ${tensor.datatype}`)
    const width = tensor.content.length / element.sizeBytes / rows
    if (!Number.isInteger(width) || output.column >= width)
      throw mismatch(`output ${output.tensor} has ${tensor.content.length} bytes for ${rows} rows`)
    for (let row = 0; row < rows; row++) {
      const at = (row * width + output.column) * element.sizeBytes
      numbers[row * plan.outputs.length + position] = element.read(tensor.content, at)
    }
  }
  return { numbers, texts }
}

interface OutputTensor {
  readonly name: string
  readonly datatype: string
  content: Buffer
}

const EMPTY = Buffer.alloc(0)

function readTensors(response: Buffer): OutputTensor[] {
  const tensors: OutputTensor[] = []
  let raw = 0
  const reader = new FieldReader(response)
  while (reader.next()) {
    if (reader.field === 5) tensors.push(readTensor(reader.message()))
    else if (reader.field === 6) {
      const tensor = tensors[raw++]
      if (tensor === undefined) throw mismatch('it has more contents than outputs')
      tensor.content = reader.bytes()
    }
  }
  return raw === tensors.length ? tensors : typedTensors(fromBinary(ModelInferResponseSchema, response))
}

function readTensor(reader: FieldReader): OutputTensor {
  let name = ''
  let datatype = ''
  while (reader.next()) {
    if (reader.field === 1) name = reader.text()
    else if (reader.field === 2) datatype = reader.text()
  }
  return { name, datatype, content: EMPTY }
}

/** Servers that answer in typed fields: the same values as raw bytes. */
function typedTensors(response: ModelInferResponse): OutputTensor[] {
  return response.outputs.map(({ name, datatype, contents }) => {
    const content = contents === undefined ? undefined : rawContent(datatype, contents)
    if (content === undefined) throw mismatch(`output ${name} has no contents`)
    return { name, datatype, content }
  })
}

function mismatch(what: string): Failure {
  return new Failure(Code.INTERNAL, 'MODEL_ANSWER_MISMATCH', `the model's answer does not match its version: ${what}`)
}
