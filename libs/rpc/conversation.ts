import { MessageQueue } from './message-queue.ts'
import type { RawClientStream } from './raw-client-stream.ts'

/**
 * A call with a stream of requests.
 *
 * 1. Requests are asked for one by one, as the server takes them.
 * 2. A reader that stops early, and requests that throw, cancel the call; what they throw is what the reader gets.
 * 3. When the call is over the requests' iterator is told to return.
 */
export async function* converse(
  open: () => RawClientStream,
  requests: AsyncIterable<object>,
  encode: (request: object) => Uint8Array,
): AsyncGenerator<Buffer> {
  const stream = open()
  const answers = new MessageQueue<Buffer>(stream)
  const iterator = requests[Symbol.asyncIterator]()
  const sender = new Sender(stream)
  let thrown: { readonly error: unknown } | undefined
  stream.onMessage((message) => answers.push(message))
  stream.onClose((failure) => {
    sender.stop()
    answers.close(failure)
  })
  void sender.send(iterator, encode).catch((error: unknown) => {
    thrown = { error }
    stream.cancel()
  })
  try {
    for await (const answer of answers) yield answer
  } catch (error) {
    throw thrown === undefined ? error : thrown.error
  } finally {
    stream.cancel()
    void Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

class Sender {
  readonly #stream: RawClientStream
  #stopped = false
  #wake: (() => void) | undefined

  constructor(stream: RawClientStream) {
    this.#stream = stream
    stream.onDrain(() => this.#wake?.())
  }

  /** No request leaves any more. */
  stop(): void {
    this.#stopped = true
    this.#wake?.()
  }

  async send(iterator: AsyncIterator<object>, encode: (request: object) => Uint8Array): Promise<void> {
    while (!this.#stopped) {
      const { done, value } = await iterator.next()
      if (done === true) {
        this.#stream.end()
        return
      }
      this.#stream.write(encode(value))
      if (this.#stream.needsDrain && !this.#stopped) await this.#drained()
    }
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}
