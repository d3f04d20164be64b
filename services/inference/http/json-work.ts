/**
 * Reads requests and writes answers in JSON: small ones at once, large ones in a thread of their own, so that nobody else waits while
 * megabytes of digits become numbers or the other way round. The thread is started for the first large one, does one thing at a time in
 * the order in which it was asked, and does nothing for a caller who has gone.
 */
import { Worker } from 'node:worker_threads'
import { Failure } from '@slipway/rpc'
import { refusal } from '../refusals.ts'
import { type HttpAnswer, isBinaryOutput, writeInferAnswer } from './infer-answer.ts'
import { type Addressee, type InferRequest, jsonLength, readInferRequest } from './infer-request.ts'
import type { FromJsonThread, Job } from './json-thread.ts'
import type { HttpLimits } from './limits.ts'

/** JSON up to here takes the event loop less than starting a message to a thread and hearing of it. */
const INLINE_BYTES = 64 * 1024

/** A caller whose request or answer it is. */
export interface Waiting {
  /** True when it waits no longer. */
  readonly cancelled: boolean
}

interface Queued {
  readonly job: Job
  readonly moved: ArrayBuffer
  readonly caller: Waiting
  readonly resolve: (result: never) => void
  readonly reject: (error: unknown) => void
}

/** See the top of this file. */
export class JsonWork {
  readonly #limits: Pick<HttpLimits, 'maxJsonBytes' | 'maxAnswerBytes'>
  readonly #queue: Queued[] = []
  #thread: Worker | undefined
  #running: Queued | undefined

  constructor(limits: Pick<HttpLimits, 'maxJsonBytes' | 'maxAnswerBytes'>) {
    this.#limits = limits
  }

  /** Reads a body, see `readInferRequest`; the body may be given away for it. */
  read(
    addressee: Addressee,
    body: Buffer,
    header: string | undefined,
    caller: Waiting,
  ): InferRequest | Promise<InferRequest> {
    const { maxJsonBytes } = this.#limits
    const length = jsonLength(header, body, maxJsonBytes)
    if (length <= INLINE_BYTES) return readInferRequest(addressee, body, header, maxJsonBytes)
    const bytes = own(body)
    const job: Job = { kind: 'read', addressee, bytes, header, maxJsonBytes }
    return this.#ask<InferRequest>(job, bytes.buffer, caller).then((request) => ({
      ...request,
      message: bufferOver(request.message),
    }))
  }

  /** Writes the answer to a request, see `writeInferAnswer`. */
  write(
    message: Uint8Array,
    { outputs, form }: Pick<InferRequest, 'outputs' | 'form'>,
    caller: Waiting,
  ): HttpAnswer | Promise<HttpAnswer> {
    const isBinary =
      outputs.length === 0
        ? form.isBinary && ![...form.byOutput.values()].includes(false)
        : outputs.every((name) => isBinaryOutput(form, name))
    if (message.length <= INLINE_BYTES || isBinary) return writeInferAnswer(message, form, this.#limits)
    const bytes = new Uint8Array(message)
    const { maxAnswerBytes, maxJsonBytes } = this.#limits
    const job: Job = { kind: 'write', bytes, form, limits: { maxAnswerBytes, maxJsonBytes } }
    return this.#ask<HttpAnswer>(job, bytes.buffer, caller).then(({ body, headers }) => ({
      body: bufferOver(body),
      headers,
    }))
  }

  /** Ends the thread; what waits for it is failed. */
  async close(): Promise<void> {
    for (const { reject } of this.#queue.splice(0)) reject(refusal.stopping())
    await this.#thread?.terminate()
  }

  #ask<Result>(job: Job, moved: ArrayBuffer, caller: Waiting): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      this.#queue.push({ job, moved, caller, resolve, reject })
      this.#next()
    })
  }

  #next(): void {
    if (this.#running !== undefined) return
    let next = this.#queue.shift()
    for (; next?.caller.cancelled; next = this.#queue.shift()) next.reject(refusal.cancelled())
    if (next === undefined) return
    this.#running = next
    try {
      this.#thread ??= this.#start()
      this.#thread.postMessage(next.job, [next.moved])
    } catch (error) {
      this.#settle({ failure: Failure.from(error) })
    }
  }

  #start(): Worker {
    const thread = new Worker(new URL('./json-thread.ts', import.meta.url), { name: 'slipway-json', env: {} })
    let reason: unknown
    thread.unref()
    thread.on('message', (answer: FromJsonThread) => this.#settle(answer))
    thread.on('error', (error) => {
      reason = error
    })
    thread.on('exit', () => {
      this.#thread = undefined
      this.#settle({ failure: Failure.from(reason ?? refusal.stopping()) })
    })
    return thread
  }

  #settle(answer: FromJsonThread): void {
    const running = this.#running
    if (running === undefined) return
    this.#running = undefined
    if ('failure' in answer) {
      const { code, reason, message, metadata, violations, retryAfterMs, cause } = answer.failure
      const after = retryAfterMs === undefined ? {} : { retryAfterMs }
      running.reject(new Failure(code, reason, message, { metadata, violations, cause, ...after }))
    } else running.resolve(answer.result as never)
    this.#next()
  }
}

/** Bytes in memory that can be given away: nobody else's lie in it. */
function own(bytes: Buffer): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength
    ? new Uint8Array(buffer)
    : new Uint8Array(bytes)
}

function bufferOver(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
