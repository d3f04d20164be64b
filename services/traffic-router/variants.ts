/** Variants of an endpoint and the versions that answer for them; pure. */
import { create } from '@bufbuild/protobuf'
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { type Variant, VariantSchema } from '@slipway/proto/slipway/routing/v1/endpoint'
import { Failure } from '@slipway/rpc'
import { allocate, BUCKET_COUNT } from './assignment.ts'
import type { ServedEndpoint } from './routing-table.ts'

/** The versions of an endpoint's variants, by target. */
export function knownVersions(endpoint: ServedEndpoint): Map<string, ModelVersion> {
  return new Map(endpoint.message.variants.map((variant, index) => [variant.target, versionAt(endpoint, index)]))
}

function versionAt(endpoint: ServedEndpoint, index: number): ModelVersion {
  const variant = endpoint.variants[index]
  if (variant === undefined) throw new Error(`${endpoint.name} has no variant ${index}`)
  return variant.version
}

/** What the router itself says about a variant whose version is known. */
export function resolution(version: ModelVersion): Pick<Variant, 'modelVersion' | 'digest' | 'featureService'> {
  return { modelVersion: version.name, digest: version.digest, featureService: version.featureService }
}

/** The variants as they are after a change: with buckets that go on from those before, and with their versions. */
export function allocated(
  variants: readonly Variant[],
  before: readonly Variant[],
  versions: ReadonlyMap<string, ModelVersion>,
): Variant[] {
  const shares = allocate(
    variants.map((variant) => ({
      name: variant.name,
      weight: variant.weightBasisPoints,
      buckets: before.find((each) => each.name === variant.name)?.buckets ?? [],
    })),
  )
  return variants.map((variant, index) => {
    const version = versions.get(variant.target)
    if (version === undefined) throw new Error(`${variant.target} was not resolved`)
    return create(VariantSchema, {
      name: variant.name,
      target: variant.target,
      weightBasisPoints: variant.weightBasisPoints,
      buckets: (shares[index]?.buckets ?? []).map(({ start, end }) => ({ start, end })),
      ...resolution(version),
    })
  })
}

/** Throws INVALID_ARGUMENT for variants that cannot share an endpoint. */
export function checkVariants(variants: readonly Variant[]): void {
  if (variants.length === 0) throw Failure.invalid('variants', 'must have at least one')
  const total = variants.reduce((sum, variant) => sum + variant.weightBasisPoints, 0)
  if (total !== BUCKET_COUNT)
    throw Failure.invalid('variants', `the weights add up to ${total} basis points, not ${BUCKET_COUNT}`)
  for (const [index, variant] of variants.entries()) {
    if (variants.findIndex((each) => each.name === variant.name) !== index)
      throw Failure.invalid(`variants[${index}].name`, `${variant.name} is there twice`)
  }
}

/** The etag that a revision gives the endpoint; one that was removed and created again has others. */
export function etagOf(revision: bigint, created: Timestamp | undefined): string {
  return `${created === undefined ? 0 : timestampMs(created).toString(36)}-${revision}`
}
