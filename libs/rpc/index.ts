export {
  type Call,
  type CallOptions,
  type Client,
  type ClientOptions,
  createClient,
  DEFAULT_TIMEOUT_MS,
} from './client.ts'
export { Code, codeName } from './code.ts'
export { type CallContext, currentCall } from './context.ts'
export { Failure, type FailureOptions, type FieldViolation } from './failure.ts'
export {
  type Handler,
  type Handlers,
  type Implementation,
  type ImplementOptions,
  implement,
} from './implementation.ts'
export { type ClientLimits, defaultClientLimits, defaultServerLimits, type ServerLimits } from './limits.ts'
export { implementRawStream, implementRawUnary, type RawStream, type RawUnaryCall } from './raw.ts'
export { createServer, type RpcServer, type ServerOptions } from './server.ts'
