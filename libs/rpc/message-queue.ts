import type { Failure } from './failure.ts'

/** Requests of a stream that wait for the handler; above this many the caller is held back. */
export const MAX_WAITING_MESSAGES = 16

/** What the queue can do to its source. */
export interface Source {
  pause(): void
  resume(): void
}

/**
 * The messages of one stream as an async iterable with back-pressure.
 *
 * 1. Messages come out in the order in which they went in; then the end, or the failure. `abort` drops what waits.
 * 2. The source is paused while more than MAX_WAITING_MESSAGES wait, and read again when none does.
 * 3. One reader; a reader that stops early leaves the source paused no longer.
 */
export class MessageQueue<T> implements AsyncIterableIterator<T> {
  readonly #source: Source
  readonly #waiting: T[] = []
  #paused = false
  #closed: { readonly failure: Failure | undefined } | undefined
  #reader: { resolve(result: IteratorResult<T>): void; reject(error: unknown): void } | undefined

  constructor(source: Source) {
    this.#source = source
  }

  /** Puts a message in. */
  push(message: T): void {
    if (this.#closed !== undefined) return
    if (this.#reader !== undefined) {
      const reader = this.#reader
      this.#reader = undefined
      reader.resolve({ done: false, value: message })
      return
    }
    this.#waiting.push(message)
    if (this.#waiting.length > MAX_WAITING_MESSAGES && !this.#paused) {
      this.#paused = true
      this.#source.pause()
    }
  }

  /** No message comes any more; after what waits the reader is told the end, or the failure. */
  close(failure?: Failure): void {
    if (this.#closed !== undefined) return
    this.#closed = { failure }
    const reader = this.#reader
    this.#reader = undefined
    if (reader === undefined) return
    if (failure === undefined) reader.resolve({ done: true, value: undefined })
    else reader.reject(failure)
  }

  /** Drops what waits and tells the reader the failure next, also after the end of the messages was known. */
  abort(failure: Failure): void {
    this.#waiting.length = 0
    if (this.#closed === undefined) this.close(failure)
    else this.#closed = { failure }
  }

  next(): Promise<IteratorResult<T>> {
    const message = this.#waiting.shift()
    if (message !== undefined) {
      if (this.#waiting.length === 0) this.#resume()
      return Promise.resolve({ done: false, value: message })
    }
    if (this.#closed !== undefined) {
      const { failure } = this.#closed
      return failure === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(failure)
    }
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject }
    })
  }

  return(): Promise<IteratorResult<T>> {
    this.#waiting.length = 0
    this.close()
    this.#resume()
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#source.resume()
  }
}
