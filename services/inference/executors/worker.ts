/** One ONNX Runtime session in a thread of its own: takes batches from shared memory, leaves answers there. */
import { parentPort, workerData } from 'node:worker_threads'
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import {
  align,
  type FromThread,
  type GroupDescription,
  INPUT_HEAD_WORDS,
  MAX_KEPT_BUFFER_BYTES,
  type ThreadData,
  type ToThread,
} from './layout.ts'

// The runtime's binding knows FP16 as Uint16Array, and fails where it finds this newer type.
Reflect.deleteProperty(globalThis, 'Float16Array')

type NumericArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | BigInt64Array
  | Float32Array
  | Float64Array

interface NumericKind {
  readonly type: Exclude<Tensor.Type, 'string' | 'int4' | 'uint4'>
  readonly view: new (buffer: ArrayBuffer | SharedArrayBuffer, offset: number, length: number) => NumericArray
}

const numericKinds: Readonly<Record<Exclude<Datatype, 'BYTES' | 'BF16'>, NumericKind>> = {
  BOOL: { type: 'bool', view: Uint8Array },
  UINT8: { type: 'uint8', view: Uint8Array },
  UINT16: { type: 'uint16', view: Uint16Array },
  UINT32: { type: 'uint32', view: Uint32Array },
  UINT64: { type: 'uint64', view: BigUint64Array },
  INT8: { type: 'int8', view: Int8Array },
  INT16: { type: 'int16', view: Int16Array },
  INT32: { type: 'int32', view: Int32Array },
  INT64: { type: 'int64', view: BigInt64Array },
  FP16: { type: 'float16', view: Uint16Array },
  FP32: { type: 'float32', view: Float32Array },
  FP64: { type: 'float64', view: Float64Array },
}

const port = parentPort
if (port === null) throw new Error('an executor runs in a worker thread')
const say = (message: FromThread): void => port.postMessage(message)

const { model, intraOpThreads } = workerData as ThreadData
const groups = new Map<number, GroupDescription>()
const inputs: SharedArrayBuffer[] = []
const outputs: SharedArrayBuffer[] = []
const session = await open()

port.on('message', (message: ToThread) => {
  if (typeof message === 'number') void run(message)
  else if (message.kind === 'group') groups.set(message.group.id, message.group)
  else if (message.kind === 'forget-groups') groups.clear()
  else inputs[message.slot] = message.buffer
})
if (session !== undefined) say({ kind: 'ready' })

async function open(): Promise<InferenceSession | undefined> {
  const options: InferenceSession.SessionOptions = {
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: 4,
  }
  try {
    return typeof model === 'string'
      ? await InferenceSession.create(model, options)
      : await InferenceSession.create(model, options)
  } catch (error) {
    say({ kind: 'refused', message: textOf(error) })
    return undefined
  }
}

async function run(slot: number): Promise<void> {
  try {
    const buffer = inputs[slot]
    const words = new Int32Array(buffer ?? new SharedArrayBuffer(0))
    const group = groups.get(words[0] ?? -1)
    if (buffer === undefined || group === undefined || session === undefined) throw new Error('a batch without a group')
    const feeds = readInputs(buffer, words, group)
    const begun = performance.now()
    const answers = await session.run(feeds, group.outputs)
    const micros = Math.round((performance.now() - begun) * 1000)
    writeOutputs(slot, group, answers, micros)
  } catch (error) {
    say({ kind: 'failed', slot, message: textOf(error) })
  }
}

function readInputs(buffer: SharedArrayBuffer, words: Int32Array, group: GroupDescription): Record<string, Tensor> {
  const rows = words[1] ?? 0
  const feeds: Record<string, Tensor> = {}
  let at = align((INPUT_HEAD_WORDS + group.inputs.length) * 4)
  for (const [index, { name, datatype, dims }] of group.inputs.entries()) {
    const bytes = words[INPUT_HEAD_WORDS + index] ?? 0
    const shape = dims.map((size) => (size < 0 ? rows : size))
    if (datatype === 'BYTES') feeds[name] = new Tensor('string', readStrings(buffer, at, bytes), shape)
    else if (datatype === 'BF16') throw new Error('the runtime cannot carry BF16')
    else {
      const { type, view: View } = numericKinds[datatype]
      const values = new View(buffer, at, bytes / datatypeBytes(datatype)).slice()
      feeds[name] = new Tensor(type, values as never, shape)
    }
    at += align(bytes)
  }
  return feeds
}

function readStrings(buffer: SharedArrayBuffer, from: number, length: number): string[] {
  const bytes = Buffer.from(buffer, from, length)
  const texts: string[] = []
  for (let at = 0; at < length; ) {
    const size = bytes.readUInt32LE(at)
    texts.push(bytes.toString('utf8', at + 4, at + 4 + size))
    at += 4 + size
  }
  return texts
}

function writeOutputs(
  slot: number,
  group: GroupDescription,
  answers: InferenceSession.ReturnType,
  micros: number,
): void {
  const tensors = group.outputs.map((name) => {
    const tensor = answers[name]
    if (tensor === undefined) throw new Error(`the runtime gave no output '${name}'`)
    return { dims: tensor.dims, bytes: bytesOf(tensor.data) }
  })
  const headWords = 1 + tensors.reduce((sum, { dims }) => sum + 2 + dims.length, 0)
  const total = tensors.reduce((sum, { bytes }) => sum + align(bytes.length), align(headWords * 4))
  let buffer = outputs[slot]
  const isNew = buffer === undefined || buffer.byteLength < total
  if (buffer === undefined || isNew) {
    buffer = new SharedArrayBuffer(Math.max(4096, 2 ** Math.ceil(Math.log2(total))))
    if (buffer.byteLength <= MAX_KEPT_BUFFER_BYTES) outputs[slot] = buffer
    else delete outputs[slot]
  }
  const words = new Int32Array(buffer, 0, headWords)
  const target = new Uint8Array(buffer)
  let word = 0
  let at = align(headWords * 4)
  words[word++] = micros
  for (const { dims, bytes } of tensors) {
    words[word++] = bytes.length
    words[word++] = dims.length
    for (const size of dims) words[word++] = size
    target.set(bytes, at)
    at += align(bytes.length)
  }
  if (isNew) say({ kind: 'output-buffer', slot, buffer })
  say(slot)
}

function bytesOf(data: Tensor['data']): Uint8Array {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const pieces: Buffer[] = []
  for (const text of data as string[]) {
    const bytes = Buffer.from(text)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    pieces.push(length, bytes)
  }
  return Buffer.concat(pieces)
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
