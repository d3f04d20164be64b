/** What a model version is, the same for everybody who makes, stores, tests or serves one. */
export { BACKGROUND_FILE, type BackgroundSource, drawBackground } from './background.ts'
export { type Example, type ExampleTensor, exampleFile, exampleFiles, inferRequest } from './example.ts'
export { type BoundColumn, type FeatureTensor, FeatureValueError, featureTensors } from './feature-tensors.ts'
export {
  bytesSource,
  downloadBytes,
  downloadFile,
  type FileSource,
  fileSource,
  type RegistryFiles,
  type TransferOptions,
  uploadFile,
} from './files.ts'
export { canonicalManifest, type VersionContent, versionDigest } from './manifest.ts'
export {
  buildReferenceDistributions,
  type ReferenceSource,
  type RowValue,
  type TrainingRow,
} from './reference-distributions.ts'
export { type NewVersion, registerVersion } from './register.ts'
export { type RetryOptions, retryUnavailable } from './retry.ts'
