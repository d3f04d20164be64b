/**
 * How a batch lies in memory on its way to an executor, and its answers on their way back; threads share that memory,
 * a process gets its bytes. Numbers in the heads are 32-bit words, times 64-bit floats; each tensor begins at a multiple of 8 bytes.
 *
 *     input:   [group, rows, state, 0, not after (2 words), handed over (2 words), bytes of tensor 0, …]  tensor 0  tensor 1 …
 *     output:  [compute, input, output, wait time in microseconds, began (2 words), (bytes, rank, dimensions…) of each tensor]  tensor 0 …
 */
import type { Datatype } from '@slipway/onnx'
import { copyBytes } from '../bytes.ts'
import type { Batch, BatchResult, OutputView } from './executor.ts'

/** A larger buffer is given up after its batch, so that one large request does not hold memory for ever. */
export const MAX_KEPT_BUFFER_BYTES = 4 * 1024 * 1024

/** The word of an input's head that says whether the batch waits, runs or was withdrawn. */
export const STATE_WORD = 2

/** What the state word says; whoever changes it from `waiting` first has decided. */
export const batchState = { waiting: 0, running: 1, withdrawn: 2 } as const

const INPUT_HEAD_WORDS = 8
const OUTPUT_HEAD_WORDS = 6
/** Where the time stands in either head, in 64-bit units. */
const TIME_INDEX = 2
const HANDED_OVER_INDEX = 3

/** One tensor of a group: all of its shape but the rows, -1 standing for them. */
export interface GroupTensor {
  readonly name: string
  readonly datatype: Datatype
  /** The shape, -1 in first place where rows of several requests follow each other. */
  readonly dims: readonly number[]
}

/** Requests that can run together: same inputs but for the number of rows, same outputs wanted. */
export interface GroupDescription {
  /** Identifies the group to the executor. */
  readonly id: number
  readonly inputs: readonly GroupTensor[]
  /** Names of the outputs wanted, in order. */
  readonly outputs: readonly string[]
}

/** Memory in the three ways in which it is looked at; its length is a multiple of 8. */
export interface Memory<B extends ArrayBufferLike = ArrayBufferLike> {
  readonly buffer: B
  readonly bytes: Buffer
  readonly words: Int32Array
  readonly doubles: Float64Array
}

/** Looks at memory. */
export function memoryOver<B extends ArrayBufferLike>(buffer: B): Memory<B> {
  return { buffer, bytes: Buffer.from(buffer), words: new Int32Array(buffer), doubles: new Float64Array(buffer) }
}

/** What is in the head of an input. */
export interface InputHead {
  readonly groupId: number
  /** When the batch was handed over, by `clockMs`. */
  readonly handedOverMs: number
  readonly notAfterMs: number
}

/** One input tensor, where it lies. */
export interface InputTensor extends Omit<GroupTensor, 'dims'> {
  readonly shape: readonly number[]
  readonly buffer: ArrayBufferLike
  readonly offset: number
  readonly length: number
}

/** What a run gave. */
export interface Answer {
  /** From handing the batch over to the beginning of its run. */
  readonly waitMicros: number
  /** Making tensors of the inputs. */
  readonly inputMicros: number
  /** In the model runtime. */
  readonly computeMicros: number
  /** Epoch milliseconds. */
  readonly beganMs: number
  /** When the run ended, by `performance.now()`: what is left to do is to take the outputs out. */
  readonly endedMs: number
  readonly tensors: readonly { readonly dims: readonly number[]; readonly bytes: Uint8Array }[]
}

/** A clock that all threads and processes of a machine share and nobody sets. */
export function clockMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}

/** The next multiple of 8. */
export function align(bytes: number): number {
  return (bytes + 7) & ~7
}

/** Bytes that a batch needs. */
export function inputSize({ group, members }: Batch): number {
  const count = group.inputs.length
  let total = align((INPUT_HEAD_WORDS + count) * 4) + 8 * count
  for (const { offsets } of members) total += (offsets[2 * count - 1] ?? 0) - (offsets[0] ?? 0)
  return align(total)
}

/** Copies a batch into memory that is large enough; gives the bytes written. */
export function writeInput(batch: Batch, { bytes: target, words, doubles }: Memory): number {
  const { group, members, rows } = batch
  const count = group.inputs.length
  words[0] = group.id
  words[1] = rows
  words[STATE_WORD] = batchState.waiting
  doubles[TIME_INDEX] = batch.notAfterMs ?? Number.POSITIVE_INFINITY
  doubles[HANDED_OVER_INDEX] = clockMs()
  let at = align((INPUT_HEAD_WORDS + count) * 4)
  for (let input = 0; input < count; input++) {
    const start = at
    for (const { bytes, offsets } of members) {
      at += copyBytes(bytes, offsets[2 * input] as number, offsets[2 * input + 1] as number, target, at)
    }
    words[INPUT_HEAD_WORDS + input] = at - start
    at = align(at)
  }
  return at
}

/** Reads the head of an input. */
export function readInputHead({ words, doubles }: Memory): InputHead {
  return {
    groupId: words[0] ?? -1,
    notAfterMs: doubles[TIME_INDEX] ?? 0,
    handedOverMs: doubles[HANDED_OVER_INDEX] ?? 0,
  }
}

/** Finds the tensors of an input. */
export function readInputs({ buffer, words }: Memory, { inputs }: GroupDescription): InputTensor[] {
  const rows = words[1] ?? 0
  let offset = align((INPUT_HEAD_WORDS + inputs.length) * 4)
  return inputs.map(({ name, datatype, dims }, index) => {
    const length = words[INPUT_HEAD_WORDS + index] ?? 0
    const tensor = { name, datatype, shape: dims.map((size) => (size < 0 ? rows : size)), buffer, offset, length }
    offset += align(length)
    return tensor
  })
}

/** Bytes that an answer needs. */
export function answerSize({ tensors }: Answer): number {
  return tensors.reduce((sum, { bytes }) => sum + align(bytes.length), align(answerHeadWords(tensors) * 4))
}

/** Copies an answer into memory that is large enough. */
export function writeAnswer(answer: Answer, { bytes: target, words, doubles }: Memory): void {
  const { computeMicros, inputMicros, waitMicros, beganMs, endedMs, tensors } = answer
  words[0] = computeMicros
  words[1] = inputMicros
  words[3] = waitMicros
  doubles[TIME_INDEX] = beganMs
  let word = OUTPUT_HEAD_WORDS
  let at = align(answerHeadWords(tensors) * 4)
  for (const { dims, bytes } of tensors) {
    words[word++] = bytes.length
    words[word++] = dims.length
    for (const size of dims) words[word++] = size
    target.set(bytes, at)
    at += align(bytes.length)
  }
  words[2] = Math.round((performance.now() - endedMs) * 1000)
}

/** Reads an answer of so many tensors; the views are of the memory itself. */
export function readAnswer({ bytes: source, words, doubles }: Memory, count: number): BatchResult {
  const [computeMicros = 0, inputMicros = 0, outputMicros = 0, waitMicros = 0] = words
  const beganMs = doubles[TIME_INDEX] as number
  let word = OUTPUT_HEAD_WORDS
  const found: { length: number; dims: number[] }[] = []
  for (let index = 0; index < count; index++) {
    const length = words[word++] as number
    const rank = words[word++] as number
    const dims: number[] = []
    for (let axis = 0; axis < rank; axis++) dims.push(words[word++] as number)
    found.push({ length, dims })
  }
  let at = align(word * 4)
  const outputs: OutputView[] = found.map(({ length, dims }) => {
    const bytes = source.subarray(at, at + length)
    at += align(length)
    return { dims, bytes }
  })
  return { outputs, computeMicros, inputMicros, outputMicros, waitMicros, beganMs }
}

function answerHeadWords(tensors: Answer['tensors']): number {
  return OUTPUT_HEAD_WORDS + tensors.reduce((sum, { dims }) => sum + 2 + dims.length, 0)
}
