export { canonicalManifest, type VersionContent, versionDigest } from './manifest.ts'
