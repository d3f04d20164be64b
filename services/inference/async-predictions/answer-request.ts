/** Has a request's bytes answered as if they had come over a call. */
import { Code, Failure, type RawUnaryCall } from '@slipway/rpc'
import type { Inference } from '../infer.ts'

/** How long the answer is wanted. */
export interface AnswerOptions {
  /** Epoch milliseconds. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
}

/** The bytes of the answer; rejects with the Failure that a caller would get. */
export async function answerRequest(
  inference: Inference,
  request: Buffer,
  { deadlineMs, signal }: AnswerOptions,
): Promise<Uint8Array> {
  const call = new LocalCall(deadlineMs)
  const giveUp = (): void => call.cancel()
  signal.addEventListener('abort', giveUp)
  try {
    if (signal.aborted) giveUp()
    else inference.unary(request, call)
  } catch (error) {
    call.fail(error)
  }
  return await call.answered.finally(() => signal.removeEventListener('abort', giveUp))
}

class LocalCall implements RawUnaryCall {
  readonly deadlineMs: number
  readonly answered: Promise<Uint8Array>
  readonly #settle: PromiseWithResolvers<Uint8Array>
  readonly #listeners: (() => void)[] = []
  cancelled = false

  constructor(deadlineMs: number) {
    this.deadlineMs = deadlineMs
    this.#settle = Promise.withResolvers()
    this.answered = this.#settle.promise
  }

  /** Nobody wants the answer any more; what still waits for its turn never runs. */
  cancel(): void {
    this.cancelled = true
    for (const listener of this.#listeners.splice(0)) listener()
    this.#settle.reject(new Failure(Code.CANCELLED, 'CANCELLED', 'the request was given up'))
  }

  onCancel(listener: () => void): void {
    this.#listeners.push(listener)
  }

  header(): undefined {
    return undefined
  }

  answer(message: Uint8Array): void {
    this.#settle.resolve(message)
  }

  fail(error: unknown): void {
    this.#settle.reject(Failure.from(error))
  }
}
