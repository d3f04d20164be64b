/** Runs a model with ONNX Runtime, in the thread that calls: never on an event loop that has other things to do. */
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { GroupDescription, InputTensor } from './layout.ts'
import type { OpenSession, RunResult } from './session.ts'

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
  readonly view: new (buffer: ArrayBufferLike, offset: number, length: number) => NumericArray
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

/** Opens a model in ONNX Runtime. */
export const openOnnxSession: OpenSession = async (model, intraOpThreads) => {
  const options: InferenceSession.SessionOptions = {
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: 4,
    // Threads of a run that is over would keep cores busy that the budget has given to others.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  }
  const session =
    typeof model === 'string'
      ? await InferenceSession.create(model, options)
      : await InferenceSession.create(model, options)
  return { run: (inputs, group) => run(session, inputs, group), close: () => session.release() }
}

async function run(
  session: InferenceSession,
  inputs: readonly InputTensor[],
  { outputs }: GroupDescription,
): Promise<RunResult> {
  const enteredMs = performance.now()
  const feeds: Record<string, Tensor> = {}
  for (const input of inputs) feeds[input.name] = toTensor(input)
  const begunMs = performance.now()
  const answers = await session.run(feeds, outputs)
  const endedMs = performance.now()
  const tensors = outputs.map((name) => {
    const tensor = answers[name]
    if (tensor === undefined) throw new Error(`the runtime gave no output '${name}'`)
    return { dims: tensor.dims, bytes: bytesOf(tensor.data) }
  })
  return { inputMicros: micros(begunMs - enteredMs), computeMicros: micros(endedMs - begunMs), endedMs, tensors }
}

function micros(ms: number): number {
  return Math.round(ms * 1000)
}

function toTensor({ datatype, shape, buffer, offset, length }: InputTensor): Tensor {
  if (datatype === 'BYTES') return new Tensor('string', readStrings(buffer, offset, length), shape)
  if (datatype === 'BF16') throw new Error('the runtime cannot carry BF16')
  const { type, view: View } = numericKinds[datatype]
  const values = new View(buffer, offset, length / datatypeBytes(datatype))
  // The runtime takes no memory that threads share.
  return new Tensor(type, (buffer instanceof SharedArrayBuffer ? values.slice() : values) as never, shape)
}

function readStrings(buffer: ArrayBufferLike, from: number, length: number): string[] {
  const bytes = Buffer.from(buffer, from, length)
  const texts: string[] = []
  for (let at = 0; at < length; ) {
    const size = bytes.readUInt32LE(at)
    texts.push(bytes.toString('utf8', at + 4, at + 4 + size))
    at += 4 + size
  }
  return texts
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
