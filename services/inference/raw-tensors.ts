/** Tensors in raw form: little-endian, row-major, no padding; BYTES as elements of a 4-byte length and that many bytes. */
import { isUtf8 } from 'node:buffer'
import type { Plan, PlannedTensor } from './plan.ts'
import { invalid } from './refusals.ts'

/**
 * Checks the raw tensors of a request and returns their positions in the group's order. Throws INVALID_ARGUMENT that names
 * the field.
 */
export function checkRaw(bytes: Buffer, raws: readonly number[], plan: Plan, model: string): readonly number[] {
  const { tensors } = plan
  if (raws.length !== 2 * tensors.length) {
    const counts = `expected ${tensors.length} raw input contents but got ${raws.length / 2}`
    throw invalid('raw_input_contents', `${counts} for model '${model}'`)
  }
  for (let index = 0; index < tensors.length; index++) {
    const start = raws[2 * index] as number
    const end = raws[2 * index + 1] as number
    const tensor = tensors[index] as PlannedTensor
    if (tensor.bytes >= 0 && end - start !== tensor.bytes) throw sizeMismatch(index, tensor, end - start, model)
    if (tensor.datatype === 'BOOL') checkBooleans(bytes, start, end, index, tensor, model)
    else if (tensor.datatype === 'BYTES') checkStrings(bytes, start, end, index, tensor, model)
  }
  if (plan.isInOrder) return raws
  const ordered: number[] = []
  for (const [index, { position }] of tensors.entries()) {
    ordered[2 * position] = raws[2 * index] as number
    ordered[2 * position + 1] = raws[2 * index + 1] as number
  }
  return ordered
}

/** Where each of `count` elements of a BYTES tensor that was checked before ends, from `start` on: the last of those ends. */
export function skipStrings(bytes: Buffer, start: number, count: number): number {
  let at = start
  for (let index = 0; index < count; index++) at += 4 + bytes.readUInt32LE(at)
  return at
}

function sizeMismatch(index: number, { name, bytes }: PlannedTensor, got: number, model: string) {
  const text = `input byte size mismatch for input '${name}' for model '${model}'. Expected ${bytes}, got ${got}`
  return invalid(`raw_input_contents[${index}]`, text)
}

function checkBooleans(
  bytes: Buffer,
  start: number,
  end: number,
  index: number,
  tensor: PlannedTensor,
  model: string,
): void {
  for (let at = start; at < end; at++) {
    if ((bytes[at] as number) > 1) {
      const text = `input '${tensor.name}' for model '${model}' has a BOOL that is neither 0 nor 1`
      throw invalid(`raw_input_contents[${index}]`, text)
    }
  }
}

function checkStrings(
  bytes: Buffer,
  start: number,
  end: number,
  index: number,
  tensor: PlannedTensor,
  model: string,
): void {
  const refuse = (why: string) =>
    invalid(`raw_input_contents[${index}]`, `${why} for input '${tensor.name}' for model '${model}'`)
  let at = start
  let count = 0
  while (at < end) {
    if (at + 4 > end) throw refuse('incomplete string length indicator')
    const length = bytes.readUInt32LE(at)
    at += 4
    if (at + length > end) throw refuse('incomplete string data')
    // The runtime takes text, and ends it at a NUL: bytes that it would change are refused.
    const text = bytes.subarray(at, at + length)
    if (!isUtf8(text) || text.includes(0))
      throw refuse('a string that is not UTF-8 or has a NUL, which the runtime cannot carry,')
    at += length
    count++
  }
  if (count !== tensor.elements) throw refuse(`expected ${tensor.elements} strings but got ${count}`)
}
