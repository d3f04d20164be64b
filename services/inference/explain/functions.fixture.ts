/** A version that is a function of rows, for tests: it answers when the test wants, and notes what it was asked. */
import { setImmediate as turn } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import type { Failure } from '@slipway/rpc'
import type { FindGroup } from '../plan.ts'
import type { Servable } from '../servable.ts'
import { describeSignature, type ModelSignature } from '../signature.ts'
import type { Work } from '../work-queue.ts'

/** What one row is to the function: its elements, one input after another. */
export type RowFunction = (row: readonly (number | string)[]) => number

/** A function as a version. */
export interface FunctionModel extends Servable {
  /** The rows of each piece of work, in order. */
  readonly offered: number[]
  readonly priorities: Set<number>
  /** Works that are under way at once, at most. */
  mostInFlight: number
  /** Asked before a work is answered; what it gives is what the work fails with. */
  before: (work: Work) => Promise<Failure | undefined>
}

/** The signature of `features` FP32 [-1, width] to `score` FP32 [-1, 1]. */
export function vectorSignature(width: number): ModelSignature {
  return describeSignature(
    [{ name: 'features', datatype: 'FP32', shape: [-1, width] }],
    [{ name: 'score', datatype: 'FP64', shape: [-1, 1] }],
  )
}

/** Serves a function; `number` tells versions apart. */
export function functionModel(signature: ModelSignature, answer: RowFunction, number = '1'): FunctionModel {
  const group: FindGroup = (inputs, outputs, batchable) => {
    return { id: 1, inputs, outputs, batchable, outputDatatypes: ['FP64'] }
  }
  let inFlight = 0
  const model: FunctionModel = {
    name: `models/function/versions/${number}`,
    model: 'function',
    number,
    digest: `sha256:${number.padStart(64, '0')}`,
    sizeBytes: 1,
    memoryBytes: 1,
    signature,
    platform: 'function',
    isQuarantined: false,
    counts: { queued: 0, batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0, executedAfterDeadline: 0 },
    lastUsedMs: 0,
    group,
    offered: [],
    priorities: new Set(),
    mostInFlight: 0,
    before: async () => undefined,
    offer(work: Work) {
      model.offered.push(work.rows)
      model.priorities.add(work.priority)
      inFlight++
      model.mostInFlight = Math.max(model.mostInFlight, inFlight)
      void run(model, work, answer).finally(() => inFlight--)
    },
    async drain() {},
    async close() {},
  }
  return model
}

async function run(model: FunctionModel, work: Work, answer: RowFunction): Promise<void> {
  await turn()
  const failure = await model.before(work)
  if (failure !== undefined) {
    work.fail(failure)
    return
  }
  const columns = model.signature.inputs.map(({ datatype }, index) =>
    elementsOf(work.bytes.subarray(work.offsets[2 * index], work.offsets[2 * index + 1]), datatype),
  )
  const bytes = Buffer.alloc(8 * work.rows)
  for (let row = 0; row < work.rows; row++) {
    const cells = columns.flatMap((column) => {
      const width = column.length / work.rows
      return column.slice(row * width, (row + 1) * width)
    })
    bytes.writeDoubleLE(answer(cells), 8 * row)
  }
  work.answer([{ dims: [work.rows, 1], bytes }], { starts: [0], ends: [bytes.length], rows: work.rows })
}

function elementsOf(bytes: Buffer, datatype: string): (number | string)[] {
  const elements: (number | string)[] = []
  for (let at = 0; at < bytes.length; ) {
    if (datatype === 'BYTES') {
      const length = bytes.readUInt32LE(at)
      elements.push(bytes.toString('utf8', at + 4, at + 4 + length))
      at += 4 + length
    } else {
      elements.push(bytes.readFloatLE(at))
      at += 4
    }
  }
  return elements
}

/** Rows of `features` as a request. */
export function vectors(rows: readonly (readonly number[])[]): MessageInitShape<typeof ModelInferRequestSchema> {
  const width = rows[0]?.length ?? 0
  return {
    inputs: [{ name: 'features', datatype: 'FP32', shape: [BigInt(rows.length), BigInt(width)] }],
    rawInputContents: [new Uint8Array(Float32Array.from(rows.flat()).buffer)],
  }
}
