/**
 * One request over HTTP and its answer.
 *
 * 1. It is answered at most once; whatever comes after the first answer, or after the caller has gone, is dropped.
 * 2. It is cancelled when its caller goes or its deadline passes before it was answered.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Failure, type RawUnaryCall } from '@slipway/rpc'
import { refusal } from '../refusals.ts'
import { chooseEncoding, compress, MIN_COMPRESSED_BYTES } from './compression.ts'
import { failureHeaders, failureText, statusOf } from './failures.ts'
import { type HttpAnswer, jsonAnswer } from './infer-answer.ts'
import type { HttpLimits } from './limits.ts'

const MAX_TIMER_MS = 2 ** 31 - 1
const nothing: HttpAnswer = { body: Buffer.alloc(0), headers: {} }

/** Makes the HTTP form of an answer, at once or in a while. */
export type WriteAnswer = (message: Uint8Array) => HttpAnswer | Promise<HttpAnswer>

/** What a call needs from its server. */
export interface HttpCallOptions {
  readonly limits: HttpLimits
  /** True while connections are to be closed behind their answers. */
  readonly isStopping: () => boolean
  /** Told once, when the call is answered or given up. */
  readonly onSettled: (failure: Failure | undefined) => void
  /** Told once, when nothing of the call is left. */
  readonly onClosed: () => void
}

/** See the top of this file. */
export class HttpCall implements RawUnaryCall {
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #options: HttpCallOptions
  #deadlineMs: number
  #deadlineTimer: NodeJS.Timeout
  #isOver = false
  #onCancel: (() => void) | undefined
  #write: WriteAnswer = () => nothing
  #name = ''
  #receivedMs = Date.now()

  constructor(request: IncomingMessage, response: ServerResponse, options: HttpCallOptions) {
    this.#request = request
    this.#response = response
    this.#options = options
    const { callTimeoutMs } = options.limits
    this.#deadlineMs = Date.now() + callTimeoutMs
    this.#deadlineTimer = setTimeout(() => this.#expire(), callTimeoutMs)
    response.on('close', () => {
      if (!this.#isOver) this.#giveUp(refusal.cancelled())
      options.onClosed()
    })
    response.on('error', () => response.destroy())
  }

  /** The connection that it came over. */
  get socket(): Socket {
    return this.#request.socket
  }

  get deadlineMs(): number {
    return this.#deadlineMs
  }

  get cancelled(): boolean {
    return this.#isOver
  }

  onCancel(listener: () => void): void {
    this.#onCancel = listener
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name]
    return Array.isArray(value) ? value[0] : value
  }

  /** The whole request is there: from now on the time runs that its caller waits. */
  received(): void {
    this.#receivedMs = Date.now()
  }

  /** Says what is predicted, how long after it was received its caller waits for it, and how the answer is written. */
  expect(model: string, timeoutMicros: number | undefined, write: WriteAnswer): void {
    this.#name = model
    this.#write = write
    const deadlineMs = this.#receivedMs + (timeoutMicros ?? Number.POSITIVE_INFINITY) / 1000
    if (deadlineMs >= this.#deadlineMs || this.#isOver) return
    this.#deadlineMs = deadlineMs
    clearTimeout(this.#deadlineTimer)
    const leftMs = Math.max(0, Math.ceil(deadlineMs - Date.now()))
    this.#deadlineTimer = setTimeout(() => this.#expire(), Math.min(leftMs, MAX_TIMER_MS))
  }

  answer(message: Uint8Array): void {
    if (this.#isOver) return
    try {
      const written = this.#write(message)
      if (written instanceof Promise) {
        written.then((answer) => this.#deliver(answer)).catch((error: unknown) => this.fail(error))
      } else this.#deliver(written)
    } catch (error) {
      this.fail(error)
    }
  }

  #deliver(answer: HttpAnswer): void {
    if (this.#isOver) return
    this.#settle(undefined)
    this.#send(200, answer)
  }

  /** Answers a question: JSON, or nothing. */
  say(status: number, text: string | undefined): void {
    if (this.#isOver) return
    this.#settle(undefined)
    this.#send(status, text === undefined ? nothing : jsonAnswer(text))
  }

  fail(error: unknown): void {
    if (this.#isOver) return
    const failure = Failure.from(error)
    this.#settle(failure)
    const { body, headers } = jsonAnswer(failureText(failure))
    this.#send(statusOf(failure), { body, headers: { ...headers, ...failureHeaders(failure) } })
  }

  #expire(): void {
    this.#giveUpWith(refusal.deadline(this.#name))
  }

  /** Ends the call from this side: its caller is told, its work is not done. */
  #giveUpWith(failure: Failure): void {
    const { body, headers } = jsonAnswer(failureText(failure))
    if (this.#giveUp(failure)) this.#send(statusOf(failure), { body, headers })
  }

  #giveUp(failure: Failure): boolean {
    if (this.#isOver) return false
    this.#settle(failure)
    this.#onCancel?.()
    return true
  }

  /** Gives up what is not answered yet, because the server does not wait any longer. */
  cut(): void {
    this.#giveUpWith(refusal.stopping())
  }

  #settle(failure: Failure | undefined): void {
    this.#isOver = true
    clearTimeout(this.#deadlineTimer)
    this.#options.onSettled(failure)
  }

  /** Whether more of the body may come than is worth reading for the sake of the next request on the connection. */
  #isEndless(): boolean {
    const { complete, headers } = this.#request
    const isLong = Number(headers['content-length'] ?? 0) > this.#options.limits.maxRequestBytes
    return !complete && (isLong || headers['transfer-encoding'] !== undefined)
  }

  #send(status: number, answer: HttpAnswer): void {
    const encoding = chooseEncoding(this.header('accept-encoding'))
    if (encoding === undefined || answer.body.length < MIN_COMPRESSED_BYTES) {
      this.#end(status, answer)
      return
    }
    compress(answer.body, encoding).then(
      (body) => {
        const headers = { ...answer.headers, 'content-encoding': encoding, vary: 'accept-encoding' }
        this.#end(status, { body, headers })
      },
      () => this.#end(status, answer),
    )
  }

  #end(status: number, { body, headers }: HttpAnswer): void {
    const response = this.#response
    if (response.destroyed) return
    const isLast = this.#options.isStopping() || this.#isEndless()
    const length = { 'content-length': body.length }
    response.writeHead(status, isLast ? { ...headers, ...length, connection: 'close' } : { ...headers, ...length })
    response.end(body)
    if (response.writableFinished || (response.socket?.writableLength ?? 0) === 0) return
    const timer = setTimeout(() => response.destroy(), this.#options.limits.writeTimeoutMs)
    response.on('close', () => clearTimeout(timer))
  }
}
