/** Rows of a model's inputs, taken apart into cells, so that rows can be put together from several. */
import { create } from '@bufbuild/protobuf'
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import { type ModelInferRequest, ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { consecutive } from '../bytes.ts'
import type { RawTensor } from '../local-predictions.ts'
import { type PlannedTensor, planRequest } from '../plan.ts'
import { checkRaw, skipStrings } from '../raw-tensors.ts'
import { invalid } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { elements } from '../signature.ts'
import { hasContents, packTyped } from '../typed-tensors.ts'

/** How one input looks in every row. */
export interface TableInput {
  readonly name: string
  readonly datatype: Datatype
  /** The dimensions of one row. */
  readonly rowShape: readonly number[]
  /** Elements of one row. */
  readonly cells: number
  /** Bytes of one element; 0 for BYTES, whose elements say their own length. */
  readonly cellBytes: number
  /** True when the rows are the tensor's first dimension. */
  readonly hasRows: boolean
}

/** One input's cells, row after row. */
export type TableColumn =
  | { readonly kind: 'fixed'; readonly bytes: Buffer }
  | { readonly kind: 'texts'; readonly texts: readonly Buffer[] }

/** Rows of all inputs. */
export interface RowTable {
  readonly rows: number
  readonly inputs: readonly TableInput[]
  /** In the order of the inputs. */
  readonly columns: readonly TableColumn[]
}

/** Takes the tensors of a request apart. Throws INVALID_ARGUMENT that names the field, as a prediction would. */
export function readTable(given: ModelInferRequest, served: Servable): RowTable {
  const { inputs, rawInputContents } = given
  const request = create(ModelInferRequestSchema, { modelName: served.model, inputs, rawInputContents })
  const plan = planRequest(request, served.signature, served.group)
  const ordered = [...plan.tensors].sort((left, right) => left.position - right.position)
  const { bytes, offsets } = contentsOf(request, plan, ordered, served.model)
  const shapes = ordered.map(({ name }) => inputs.find((input) => input.name === name)?.shape.map(Number) ?? [])
  const { takesRows } = served.signature
  if (takesRows && shapes.some((shape) => shape[0] !== plan.rows))
    throw invalid('inputs', `the inputs of model '${served.model}' have different numbers of rows`)
  return {
    rows: plan.rows,
    inputs: ordered.map((tensor, index) => inputOf(tensor, shapes[index] as number[], takesRows)),
    columns: ordered.map((tensor, index): TableColumn => {
      const [start = 0, end = 0] = offsets.slice(2 * index)
      if (tensor.bytes >= 0) return { kind: 'fixed', bytes: bytes.subarray(start, end) }
      return { kind: 'texts', texts: splitTexts(bytes, start, tensor.elements) }
    }),
  }
}

/** The whole table as the inputs of one request. */
export function tensorsOf({ rows, inputs, columns }: RowTable): RawTensor[] {
  return inputs.map((input, index) => {
    const column = columns[index] as TableColumn
    const bytes = column.kind === 'fixed' ? column.bytes : Buffer.concat(column.texts)
    return { name: input.name, datatype: input.datatype, shape: shapeOf(input, rows), bytes }
  })
}

/** The shape of an input of so many rows. */
export function shapeOf({ hasRows, rowShape }: TableInput, rows: number): readonly number[] {
  return hasRows ? [rows, ...rowShape] : rowShape
}

/** Whether two tables' rows are made alike, so that cells of one fit into the other. */
export function areAlike(left: RowTable, right: RowTable): boolean {
  return left.inputs.every((input, index) => String(input.rowShape) === String(right.inputs[index]?.rowShape))
}

function inputOf({ name, datatype }: PlannedTensor, shape: readonly number[], takesRows: boolean): TableInput {
  // A model that is made for one row at a time may still count it.
  const hasRows = takesRows || shape[0] === 1
  const rowShape = hasRows ? shape.slice(1) : shape
  const cellBytes = datatype === 'BYTES' ? 0 : datatypeBytes(datatype)
  return { name, datatype, rowShape, cells: elements(rowShape), cellBytes, hasRows }
}

function contentsOf(
  { inputs, rawInputContents }: ModelInferRequest,
  plan: ReturnType<typeof planRequest>,
  ordered: readonly PlannedTensor[],
  model: string,
): { readonly bytes: Buffer; readonly offsets: readonly number[] } {
  if (rawInputContents.length > 0) {
    const typed = inputs.findIndex((input) => hasContents(input.contents))
    if (typed >= 0)
      throw invalid(`inputs[${typed}].contents`, 'contents field must not be specified when using raw_input_contents')
    const bytes = Buffer.concat(rawInputContents)
    return { bytes, offsets: checkRaw(bytes, consecutive(rawInputContents.map(({ length }) => length)), plan, model) }
  }
  const pieces: Buffer[] = []
  for (const [index, tensor] of plan.tensors.entries())
    pieces[tensor.position] = packTyped(inputs[index]?.contents, tensor, index)
  const bytes = Buffer.concat(pieces)
  const offsets = consecutive(pieces.map(({ length }) => length))
  return { bytes, offsets: checkRaw(bytes, offsets, { ...plan, tensors: ordered, isInOrder: true }, model) }
}

function splitTexts(bytes: Buffer, start: number, count: number): Buffer[] {
  const texts: Buffer[] = []
  let at = start
  for (let index = 0; index < count; index++) {
    const end = skipStrings(bytes, at, 1)
    texts.push(bytes.subarray(at, end))
    at = end
  }
  return texts
}
