/** Predictions that the server makes for itself, without a call: same checks, same queue, same executors. */
import { create } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import type { Context } from '@slipway/telemetry'
import { consecutive } from './bytes.ts'
import type { OutputView } from './executors/executor.ts'
import { planRequest } from './plan.ts'
import { checkRaw } from './raw-tensors.ts'
import type { Servable } from './servable.ts'
import type { AnswerPart, Work } from './work-queue.ts'

/** A tensor in raw form: little-endian, row-major; BYTES as elements of a 4-byte length and that many bytes. */
export interface RawTensor {
  readonly name: string
  readonly datatype: string
  readonly shape: readonly number[]
  readonly bytes: Buffer
}

/** One request that the server makes. */
export interface LocalRequest {
  readonly inputs: readonly RawTensor[]
  /** The outputs wanted, in order; all of them when unset. */
  readonly outputs?: readonly string[]
  /** 1 is the most urgent, 0 the default. */
  readonly priority?: number
  /** Epoch milliseconds. */
  readonly deadlineMs?: number
  /** Aborted when the answer is not wanted any more. */
  readonly signal?: AbortSignal
  readonly trace?: Context
}

/** Has one request answered by a version. Rejects with the Failure that a caller from outside would get. */
export function predict(served: Servable, request: LocalRequest): Promise<readonly RawTensor[]> {
  const { inputs, outputs = [], signal } = request
  const message = create(ModelInferRequestSchema, {
    modelName: served.model,
    inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(BigInt) })),
    outputs: outputs.map((name) => ({ name })),
  })
  const plan = planRequest(message, served.signature, served.group)
  // The bytes of a single input are taken as they are: they stay the caller's until the answer is there.
  const [first] = inputs
  const bytes =
    first !== undefined && inputs.length === 1 ? first.bytes : Buffer.concat(inputs.map((input) => input.bytes))
  const offsets = checkRaw(bytes, consecutive(inputs.map((input) => input.bytes.length)), plan, served.model)
  if (signal?.aborted) return Promise.reject(new Failure(Code.CANCELLED, 'CANCELLED', 'the request was given up'))
  return new Promise((resolve, reject) => {
    served.offer(new LocalWork({ request, group: plan.group, rows: plan.rows, bytes, offsets, resolve, reject }))
  })
}

interface LocalWorkOptions extends Pick<Work, 'group' | 'rows' | 'bytes' | 'offsets'> {
  readonly request: LocalRequest
  readonly resolve: (outputs: readonly RawTensor[]) => void
  readonly reject: (failure: Failure) => void
}

class LocalWork implements Work {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
  readonly group: Work['group']
  readonly rows: number
  readonly priority: number
  readonly deadlineMs: number
  readonly arrivedMs = performance.now()
  readonly trace: Context | undefined
  readonly #options: LocalWorkOptions
  #whenGivenUp: (() => void) | undefined

  constructor(options: LocalWorkOptions) {
    const { request, group, rows, bytes, offsets } = options
    this.bytes = bytes
    this.offsets = offsets
    this.group = group
    this.rows = rows
    this.priority = request.priority ?? 0
    this.deadlineMs = request.deadlineMs ?? Number.POSITIVE_INFINITY
    this.trace = request.trace
    this.#options = options
  }

  get isCancelled(): boolean {
    return this.#options.request.signal?.aborted ?? false
  }

  onCancel(listener: () => void): void {
    this.#settle()
    // One of its own: requests that share a signal and a batch would lose the listener with the first of them that is over.
    this.#whenGivenUp = () => listener()
    this.#options.request.signal?.addEventListener('abort', this.#whenGivenUp, { once: true })
  }

  answer(outputs: readonly OutputView[], { starts, ends, rows }: AnswerPart): void {
    const { group } = this
    this.#settle()
    this.#options.resolve(
      outputs.map(({ dims, bytes }, index) => ({
        name: group.outputs[index] ?? '',
        datatype: group.outputDatatypes[index] ?? '',
        shape: rows === undefined ? dims : [rows, ...dims.slice(1)],
        // The views are the executor's own memory: what outlives this call is copied.
        bytes: Buffer.from(bytes.subarray(starts[index], ends[index])),
      })),
    )
  }

  fail(failure: Failure): void {
    this.#settle()
    this.#options.reject(failure)
  }

  /** A signal may outlive many requests: it keeps no listener of one that is over. */
  #settle(): void {
    if (this.#whenGivenUp !== undefined) this.#options.request.signal?.removeEventListener('abort', this.#whenGivenUp)
  }
}
