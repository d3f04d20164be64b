export { canonicalManifest, type VersionContent, versionDigest } from './manifest.ts'
export {
  buildReferenceDistributions,
  type ReferenceSource,
  type RowValue,
  type TrainingRow,
} from './reference-distributions.ts'
