export type { CallOptions } from './call-scope.ts'
export { type Call, type Client, type ClientOptions, createClient } from './client.ts'
export { Code, codeName } from './code.ts'
export { type CallContext, currentCall } from './context.ts'
export { Failure, type FailureOptions, type FieldViolation } from './failure.ts'
export { type Handler, type Handlers, type Implementation, type ImplementOptions, implement } from './implementation.ts'
export {
  type ClientLimits,
  DEFAULT_TIMEOUT_MS,
  defaultClientLimits,
  defaultServerLimits,
  type ServerLimits,
} from './limits.ts'
export { implementRawStream, implementRawUnary, type RawStream, type RawUnaryCall } from './raw.ts'
export {
  callRawUnary,
  openRawChannel,
  openRawStream,
  type RawChannel,
  type RawChannelOptions,
  type StreamOptions,
} from './raw-client.ts'
export type { RawClientStream } from './raw-client-stream.ts'
export { defaultRetryPolicy, type RetryPolicy } from './retry.ts'
export { createServer, type RpcServer, type ServerOptions } from './server.ts'
export { type ClientTls, isLoopback, readTlsFiles, type ServerTls, type TlsFiles } from './tls.ts'
export { violationsOf } from './validation.ts'
