/** Typed clients for all services of Slipway, and what a caller of them needs besides. */
export { addressVariable } from './cli-addresses.ts'
export {
  type Addresses,
  type ConnectOptions,
  connect,
  defaultAddresses,
  type Health,
  type ServiceName,
  type Slipway,
} from './connect.ts'
export { downloadDataset, type FeatureFiles, uploadSpine } from './feature-files.ts'
export { fromValue, type PlainValue, toValue, toValues, type ValueInit } from './feature-value.ts'
export { runGate } from './gate.ts'
export {
  type InferenceStream,
  type InferenceStreamOptions,
  type InferOptions,
  openInferenceStream,
} from './inference-stream.ts'
