import type {
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf'
import type { CallContext, ServerContext } from './context.ts'
import type { Exchange } from './exchange.ts'
import { serveTyped, type TypedHandler } from './typed-call.ts'

/** A handler of a method, its shape derived from the method's kind. */
export type Handler<M extends DescMethod> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, context: CallContext) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, context: CallContext) => AsyncIterable<MessageInitShape<O>>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, context: CallContext) => Promise<MessageInitShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageShape<I>>, context: CallContext) => AsyncIterable<MessageInitShape<O>>
          : never

/** A handler for each method of a service, under the method's name in lowerCamelCase. */
export type Handlers<S extends DescService> = { readonly [K in keyof S['method']]: Handler<S['method'][K]> }

/** Methods of one service that a server can answer. */
export interface Implementation {
  readonly service: DescService
  readonly methods: readonly ImplementedMethod[]
}

/** One method and how it is answered. */
export interface ImplementedMethod {
  readonly method: DescMethod
  /** Taken on the lean path, where the server has one. */
  readonly hot: boolean
  /** Answers one call. Must not throw. */
  serve(exchange: Exchange, context: ServerContext): void
}

/** How methods are answered. */
export interface ImplementOptions<S extends DescService> {
  /** Methods to take on the lean path: they cost less, and grpc-js does not see them. */
  readonly hot?: readonly (keyof S['method'])[]
}

/**
 * Handlers in messages. Rules declared in the proto are enforced before a handler is called; what a handler throws
 * reaches the caller as the Failure it is, or as an opaque INTERNAL. Methods without a handler are UNIMPLEMENTED,
 * unless another implementation of the same server has them.
 */
export function implement<S extends DescService>(
  service: S,
  handlers: Partial<Handlers<S>>,
  options: ImplementOptions<S> = {},
): Implementation {
  const methods: ImplementedMethod[] = []
  for (const method of service.methods) {
    const handler = (handlers as Record<string, TypedHandler | undefined>)[method.localName]
    if (handler === undefined) continue
    const hot = options.hot?.includes(method.localName) ?? false
    methods.push({ method, hot, serve: serveTyped(method, handler) })
  }
  return { service, methods }
}

/** Full name of a method, such as `slipway.testing.v1.EchoService/Echo`. */
export function methodName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`
}

/** The `:path` of a method. */
export function methodPath(method: DescMethod): string {
  return `/${methodName(method)}`
}
