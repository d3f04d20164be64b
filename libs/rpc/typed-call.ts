import { create, type DescMessage, type DescMethod, type Message, toBinary } from '@bufbuild/protobuf'
import { Code } from './code.ts'
import type { CallContext, ServerContext } from './context.ts'
import type { Exchange, ExchangeListener } from './exchange.ts'
import { Failure } from './failure.ts'
import { MessageQueue } from './message-queue.ts'
import { readRequest } from './validation.ts'

// How a call in messages runs over an exchange in bytes: one reader for each way of sending, one writer for each way of
// answering. Everything a handler throws passes through one place in each writer.

/** Any handler, as the server sees it: `request` is a message or an iterable of messages. */
export type TypedHandler = (request: unknown, context: CallContext) => Promise<object> | AsyncIterable<object>

type Start = (request: unknown) => void

/** Answers calls of one method with a handler in messages. */
export function serveTyped(method: DescMethod, handler: TypedHandler) {
  const streamsRequests = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
  const streamsAnswers = method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming'
  return (exchange: Exchange, context: ServerContext): void => {
    const answer = streamsAnswers ? new StreamAnswer(method.output, exchange, context) : undefined
    const start: Start = (request) => {
      if (answer !== undefined) answer.start(() => handler(request, context) as AsyncIterable<object>)
      else void answerOnce(method.output, exchange, context, () => handler(request, context) as Promise<object>)
    }
    const listener = streamsRequests
      ? readMany(method.input, exchange, start)
      : readOne(exchange, (bytes) => start(readRequest(method.input, bytes)))
    exchange.listen({
      ...listener,
      drain: () => answer?.drain(),
      cancel(failure) {
        context.abort(failure)
        listener.cancel(failure)
        answer?.cancel()
      },
    })
  }
}

/** Hears exactly one message: none and a second one are INVALID_ARGUMENT. */
export function readOne(exchange: Exchange, take: (bytes: Buffer) => void): ExchangeListener {
  let only: Buffer | undefined
  return {
    message(bytes) {
      if (only === undefined) only = bytes
      else exchange.fail(wrongCount('more than one request message'))
    },
    end() {
      if (only === undefined) {
        exchange.fail(wrongCount('no request message'))
        return
      }
      try {
        take(only)
      } catch (error) {
        exchange.fail(Failure.from(error))
      }
    },
    cancel() {},
  }
}

const wrongCount = (what: string): Failure =>
  new Failure(Code.INVALID_ARGUMENT, 'WRONG_MESSAGE_COUNT', `the call has ${what}`)

function readMany(input: DescMessage, exchange: Exchange, start: Start): ExchangeListener {
  const queue = new MessageQueue<Message>(exchange)
  start(queue)
  return {
    message(bytes) {
      try {
        queue.push(readRequest(input, bytes))
      } catch (error) {
        const failure = Failure.from(error)
        exchange.fail(failure)
        queue.abort(failure)
      }
    },
    end: () => queue.close(),
    cancel: (failure) => queue.abort(failure),
  }
}

async function answerOnce(
  output: DescMessage,
  exchange: Exchange,
  context: ServerContext,
  handle: () => Promise<object>,
): Promise<void> {
  try {
    const answer = await context.run(handle)
    exchange.answer(encode(output, answer), context.trailers)
  } catch (error) {
    exchange.fail(Failure.from(error), context.trailers)
  }
}

/**
 * Sends what an iterable yields.
 * 1. The next message is asked for only when the caller can be sent one.
 * 2. When the call is over the iterable is told to return, so that its `finally` runs.
 */
class StreamAnswer {
  readonly #output: DescMessage
  readonly #exchange: Exchange
  readonly #context: ServerContext
  #iterator: AsyncIterator<object> | undefined
  #drained: (() => void) | undefined

  constructor(output: DescMessage, exchange: Exchange, context: ServerContext) {
    this.#output = output
    this.#exchange = exchange
    this.#context = context
  }

  start(handle: () => AsyncIterable<object>): void {
    void this.#send(handle)
  }

  drain(): void {
    const drained = this.#drained
    this.#drained = undefined
    drained?.()
  }

  cancel(): void {
    this.drain()
    void this.#close()
  }

  async #send(handle: () => AsyncIterable<object>): Promise<void> {
    const exchange = this.#exchange
    const context = this.#context
    try {
      const iterator = context.run(() => handle()[Symbol.asyncIterator]())
      this.#iterator = iterator
      const next = (): Promise<IteratorResult<object>> => iterator.next()
      for (;;) {
        const result = await context.run(next)
        if (exchange.cancelled) return
        if (result.done === true) break
        if (!exchange.write(encode(this.#output, result.value))) await this.#drain()
        if (exchange.cancelled) return
      }
      exchange.finish(context.trailers)
    } catch (error) {
      exchange.fail(Failure.from(error), context.trailers)
      void this.#close()
    }
  }

  #drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#drained = resolve
    })
  }

  async #close(): Promise<void> {
    try {
      await this.#iterator?.return?.()
    } catch {
      // The call is over and its outcome known: nobody is left to tell.
    }
  }
}

function encode(output: DescMessage, answer: object): Uint8Array {
  return toBinary(output, create(output, answer as Record<string, unknown>))
}
