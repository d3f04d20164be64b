/**
 * What a version's digest is taken of, so that whoever serves, tests or stores a version can check that it is the one
 * that was registered: the proto3 JSON of the version with only its declared content set, in the canonical form of RFC
 * 8785 (keys sorted, no blanks), in UTF-8. The files stand in it by path, size and digest, so the digest of the version
 * covers every byte of them.
 */
import { createHash } from 'node:crypto'
import { create, type JsonValue, toJson } from '@bufbuild/protobuf'
import { type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'

/** The part of a version that its digest covers; everything else is what the registry knows about it. */
export type VersionContent = Pick<
  ModelVersion,
  'files' | 'signature' | 'features' | 'outputs' | 'featureService' | 'referenceDistributions' | 'lineage'
>

/** The canonical manifest as text. */
export function canonicalManifest(content: VersionContent): string {
  const { files, signature, features, outputs, featureService, referenceDistributions, lineage } = content
  const declared = create(ModelVersionSchema, {
    files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    features,
    outputs,
    featureService,
    referenceDistributions,
    ...(signature && { signature }),
    ...(lineage && { lineage }),
  })
  return canonicalJson(toJson(ModelVersionSchema, declared))
}

/** The digest of a version, `sha256:{hex}`: the SHA-256 of its canonical manifest. */
export function versionDigest(content: VersionContent): string {
  return `sha256:${createHash('sha256').update(canonicalManifest(content)).digest('hex')}`
}

function canonicalJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  // Sorted by UTF-16 code units, as RFC 8785 asks and as the default order does.
  const keys = Object.keys(value).sort()
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] ?? null)}`).join(',')}}`
}
