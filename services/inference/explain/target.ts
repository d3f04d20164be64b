/** Which number of an answer is explained. Pure. */
import { type Element, elementOf } from '@slipway/onnx'
import type { OutputBinding } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import type { RawTensor } from '../local-predictions.ts'
import { echo } from '../refusals.ts'
import type { ModelSignature } from '../signature.ts'

/** A column of an output tensor. */
export interface Target {
  /** As the answer names it. */
  readonly name: string
  readonly tensor: string
  readonly column: number
  readonly element: Element
}

/** Finds the output that a request asks for; '' stands for the first. Throws INVALID_ARGUMENT when there is none. */
export function chooseTarget(
  wanted: string,
  signature: ModelSignature,
  bindings: readonly Pick<OutputBinding, 'output' | 'tensor' | 'column'>[],
): Target {
  const bound = wanted === '' ? bindings[0] : bindings.find(({ output }) => output === wanted)
  if (bound !== undefined) return targetOf(bound.output, bound.tensor, bound.column, signature)
  if (wanted === '') {
    const first = signature.outputs.find(({ datatype }) => elementOf(datatype) !== undefined)
    if (first === undefined) throw Failure.invalid('output', 'the model answers with no numbers')
    return targetOf(first.name, first.name, 0, signature)
  }
  const [, tensor = wanted, column = '0'] = /^(.+)\[(\d{1,9})\]$/.exec(wanted) ?? []
  return targetOf(wanted, tensor, Number(column), signature)
}

function targetOf(name: string, tensor: string, column: number, { outputs }: ModelSignature): Target {
  const spec = outputs.find((output) => output.name === tensor)
  if (spec === undefined) throw Failure.invalid('output', `there is no output ${echo(name)}`)
  const element = elementOf(spec.datatype)
  if (element === undefined) throw Failure.invalid('output', `${echo(name)} has datatype ${spec.datatype}, no number`)
  return { name, tensor, column, element }
}

/** Reads the target off an answer of so many rows. */
export function readTarget(target: Target, outputs: readonly RawTensor[], rows: number): number[] {
  const output = outputs[0]
  const width = output === undefined ? 0 : output.bytes.length / target.element.sizeBytes / rows
  if (output === undefined || !Number.isInteger(width) || target.column >= width)
    throw new Failure(Code.INVALID_ARGUMENT, 'INVALID_FIELD', `output: ${echo(target.name)} has ${width} columns`)
  return Array.from({ length: rows }, (_, row) =>
    target.element.read(output.bytes, (row * width + target.column) * target.element.sizeBytes),
  )
}
