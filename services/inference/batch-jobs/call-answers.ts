/**
 * Answers the calls of a job through the queue that callers from outside use, after all of them.
 *
 * 1. A server that is busy or loading is waited for, as long as the job is wanted: callers go first.
 * 2. A call that fails is halved until the rows are found that fail alone; these have an error, the others an answer.
 * 3. No answer comes from another digest than the job's.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { datatypeBytes } from '@slipway/onnx'
import { Code, Failure } from '@slipway/rpc'
import { predict, type RawTensor } from '../local-predictions.ts'
import { skipStrings } from '../raw-tensors.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { InputError } from './input-error.ts'
import type { CallErrors } from './reader-protocol.ts'
import { type InputTensor, type OutputTensor, type Recipe, widthOf } from './recipe.ts'

const PRIORITY = 9
const MIN_WAIT_MS = 20
const MAX_WAIT_MS = 2000
const MAX_TRIES_AWAY = 30

/** Finds the version that is to answer, loading it if need be. */
export type Acquire = () => Servable | Promise<Servable>

/** What answers a job's calls. */
export interface CallAnswersOptions {
  readonly recipe: Recipe
  readonly acquire: Acquire
  /** The file that is read, for messages. */
  readonly source: string
  readonly signal: AbortSignal
}

interface Answered {
  readonly tensors: readonly Buffer[]
  readonly errors: CallErrors
}

/** Answers one call: rows of the file from `first` on. */
export async function answerCall(
  options: CallAnswersOptions,
  inputs: readonly Buffer[],
  rows: number,
  first: number,
): Promise<Answered> {
  const { recipe, source } = options
  const answered = await answerRows(options, inputs, rows)
  const [failed] = answered.errors
  if (failed !== undefined && !recipe.writesErrors)
    throw new InputError(`${source} row ${first + failed[0] + 1}: ${failed[1]}`)
  return answered
}

async function answerRows(options: CallAnswersOptions, inputs: readonly Buffer[], rows: number): Promise<Answered> {
  const { recipe } = options
  try {
    return { tensors: await ask(options, inputs, rows), errors: [] }
  } catch (error) {
    if (!(error instanceof Failure) || !isOfRows(error)) throw error
    if (rows === 1) return { tensors: recipe.outputs.map(emptyRow), errors: [[0, error.message]] }
    const half = rows >> 1
    const left = await answerRows(options, slice(recipe.inputs, inputs, 0, half), half)
    const right = await answerRows(options, slice(recipe.inputs, inputs, half, rows), rows - half)
    return {
      tensors: left.tensors.map((tensor, index) => Buffer.concat([tensor, right.tensors[index] ?? Buffer.alloc(0)])),
      errors: [...left.errors, ...right.errors.map(([row, why]) => [row + half, why] as const)],
    }
  }
}

/** Whether the rows themselves are what the model cannot answer. */
function isOfRows({ code, reason }: Failure): boolean {
  return code === Code.INVALID_ARGUMENT || reason === 'MODEL_RUN_FAILED'
}

async function ask(options: CallAnswersOptions, inputs: readonly Buffer[], rows: number): Promise<Buffer[]> {
  const { recipe, signal, acquire } = options
  const tensors = recipe.inputs.map(
    ({ name, datatype, dims }, index): RawTensor => ({
      name,
      datatype,
      shape: [rows, ...dims],
      bytes: inputs[index] ?? Buffer.alloc(0),
    }),
  )
  const outputs = recipe.outputs.map(({ name }) => name)
  let waitMs = MIN_WAIT_MS
  for (let triesAway = 0; ; ) {
    signal.throwIfAborted()
    try {
      const served = await acquire()
      if (served.digest !== recipe.digest) throw refusal.digestMismatch(served.name, recipe.digest, served.digest)
      const answered = await predict(served, { inputs: tensors, outputs, priority: PRIORITY, signal })
      return answered.map(({ bytes }) => bytes)
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof Failure) || !isPassing(error)) throw error
      if (error.code !== Code.RESOURCE_EXHAUSTED && ++triesAway > MAX_TRIES_AWAY) throw error
      await sleep(Math.max(waitMs, error.retryAfterMs ?? 0), undefined, { signal })
      waitMs = Math.min(MAX_WAIT_MS, waitMs * 2)
    }
  }
}

function isPassing({ code }: Failure): boolean {
  return code === Code.RESOURCE_EXHAUSTED || code === Code.UNAVAILABLE
}

function emptyRow({ datatype, width }: OutputTensor): Buffer {
  return Buffer.alloc(width * (datatype === 'BYTES' ? 4 : datatypeBytes(datatype)))
}

function slice(tensors: readonly InputTensor[], inputs: readonly Buffer[], from: number, to: number): Buffer[] {
  return tensors.map((tensor, index) => {
    const bytes = inputs[index] ?? Buffer.alloc(0)
    const width = widthOf(tensor)
    if (tensor.datatype !== 'BYTES') {
      const rowBytes = width * datatypeBytes(tensor.datatype)
      return bytes.subarray(from * rowBytes, to * rowBytes)
    }
    const start = skipStrings(bytes, 0, from * width)
    return bytes.subarray(start, skipStrings(bytes, start, (to - from) * width))
  })
}
