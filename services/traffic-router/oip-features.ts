/**
 * The features in a request of the Open Inference Protocol, read back from its tensors by the version's bindings, so that
 * predictions are logged and watched the same way whichever way they were asked for. Done after the answer left.
 */
import { fromBinary } from '@bufbuild/protobuf'
import { elementOf } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { rawContent, textElements } from './contents.ts'
import type { Plan, PlannedInput } from './plan.ts'
import { NULL_VALUE, PRESENT } from './predict-message.ts'
import type { Scalar } from './tensors.ts'
import { FieldReader } from './wire-reader.ts'

/** The features of one row, in the order of the plan. */
export interface ReadRow {
  readonly values: (Scalar | undefined)[]
  readonly statuses: Uint8Array
}

/** The rows of a ModelInferRequest; undefined when its tensors are not the ones that the plan binds. */
export function readFeatureRows(request: Buffer, plan: Plan): ReadRow[] | undefined {
  const contents = readContents(request)
  let rows: ReadRow[] | undefined
  for (const input of plan.inputs) {
    const content = contents.get(input.name)
    const elements = content === undefined ? undefined : readElements(input, content)
    if (elements === undefined) return undefined
    const width = input.features.length
    const count = elements.length / width
    if (!Number.isInteger(count) || (rows !== undefined && rows.length !== count)) return undefined
    rows ??= Array.from({ length: count }, () => emptyRow(plan))
    for (let at = 0; at < elements.length; at++) {
      const row = rows[Math.floor(at / width)]
      const index = input.features[at % width]
      if (row !== undefined && index !== undefined) place(row, index, elements[at])
    }
  }
  return rows
}

function emptyRow(plan: Plan): ReadRow {
  return {
    values: new Array<Scalar | undefined>(plan.features.length),
    statuses: new Uint8Array(plan.features.length).fill(NULL_VALUE),
  }
}

function place(row: ReadRow, index: number, value: Scalar | undefined): void {
  if (value === undefined || Number.isNaN(value)) return
  row.values[index] = value
  row.statuses[index] = PRESENT
}

function readElements(input: PlannedInput, content: Buffer): readonly Scalar[] | undefined {
  const element = elementOf(input.datatype)
  if (element === undefined) return textElements(content)
  if (content.length % element.sizeBytes !== 0) return undefined
  const elements = new Array<number>(content.length / element.sizeBytes)
  for (let at = 0; at < elements.length; at++) elements[at] = element.read(content, at * element.sizeBytes)
  return elements
}

/** The raw contents of the inputs, by name. */
function readContents(request: Buffer): Map<string, Buffer> {
  const names: string[] = []
  const raw: Buffer[] = []
  const reader = new FieldReader(request)
  while (reader.next()) {
    if (reader.field === 5) names.push(nameOf(reader.message()))
    else if (reader.field === 7) raw.push(reader.bytes())
  }
  const contents = new Map<string, Buffer>()
  if (raw.length > 0) {
    for (const [index, name] of names.entries()) contents.set(name, raw[index] ?? Buffer.alloc(0))
    return contents
  }
  for (const input of fromBinary(ModelInferRequestSchema, request).inputs) {
    const content = input.contents === undefined ? undefined : rawContent(input.datatype, input.contents)
    if (content !== undefined) contents.set(input.name, content)
  }
  return contents
}

function nameOf(input: FieldReader): string {
  let name = ''
  while (input.next()) if (input.field === 1) name = input.text()
  return name
}
