/**
 * Every endpoint as requests see it, in memory. An entry is built whole and put in place whole: a request takes one and
 * keeps it, so it sees the endpoint before a change or after it, never in between.
 */
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import type { Endpoint, Variant } from '@slipway/proto/slipway/routing/v1/endpoint'
import { Code, Failure } from '@slipway/rpc'
import { BUCKET_COUNT, bucketOf, bucketTable } from './assignment.ts'
import { MAX_ECHOED_CHARACTERS } from './limits.ts'
import { textParameterField } from './oip-message.ts'
import { type Planned, planVersion } from './plan.ts'
import { FieldWriter } from './wire-writer.ts'

/** A variant with the version that answers for it. */
export interface ServedVariant {
  readonly name: string
  /** Probability that a random routing key gets this variant. */
  readonly propensity: number
  /** `models/{model}/versions/{number}`. */
  readonly modelVersion: string
  /** The model's id, which is its name in the Open Inference Protocol. */
  readonly model: string
  /** The version's number as text. */
  readonly number: string
  readonly digest: string
  readonly featureService: string
  readonly planned: Planned
  readonly version: ModelVersion
  /** Fields 2 to 4 of a Prediction (variant, version, digest), encoded. */
  readonly answerFields: Buffer
  /** Parameters that an OIP answer gets, encoded. */
  readonly answerParameters: Buffer
}

/** An endpoint as requests see it. */
export interface ServedEndpoint {
  /** `endpoints/{endpoint}`. */
  readonly name: string
  /** The endpoint's id, which is the model name that callers of the Open Inference Protocol use. */
  readonly id: string
  readonly message: Endpoint
  readonly predictionSamplingRate: number
  readonly requestSamplingRate: number
  readonly explainSamplingRate: number
  readonly variants: readonly ServedVariant[]
  /** For each bucket the index of its variant. */
  readonly table: Uint8Array
}

/** Which variant answers, and why. */
export interface Assignment {
  readonly variant: ServedVariant
  readonly bucket: number
}

/** Builds the entry of an endpoint; `versionOf` knows every version that the endpoint names. */
export function serveEndpoint(
  endpoint: Endpoint,
  versionOf: (name: string) => ModelVersion | undefined,
): ServedEndpoint {
  return {
    name: endpoint.name,
    id: endpoint.name.slice('endpoints/'.length),
    message: endpoint,
    predictionSamplingRate: endpoint.predictionSamplingRate ?? 1,
    requestSamplingRate: endpoint.requestSamplingRate ?? 0,
    explainSamplingRate: endpoint.explainSamplingRate ?? 0,
    variants: endpoint.variants.map((variant) => {
      const version = versionOf(variant.modelVersion)
      if (version === undefined) throw new Error(`${endpoint.name} names ${variant.modelVersion}, which is not known`)
      return serveVariant(variant, version)
    }),
    table: bucketTable(endpoint.variants),
  }
}

function serveVariant(variant: Variant, version: ModelVersion): ServedVariant {
  const [, model = '', , number = ''] = version.name.split('/')
  return {
    name: variant.name,
    propensity: variant.weightBasisPoints / BUCKET_COUNT,
    modelVersion: version.name,
    model,
    number,
    digest: version.digest,
    featureService: version.featureService,
    planned: planVersion(version),
    version,
    answerFields: encodeAnswerFields(variant.name, version),
    answerParameters: Buffer.concat([
      textParameterField('variant', variant.name),
      textParameterField('model', model),
      textParameterField('slipway_digest', version.digest),
    ]),
  }
}

function encodeAnswerFields(variant: string, version: ModelVersion): Buffer {
  const writer = new FieldWriter()
  writer.text(2, variant)
  writer.text(3, version.name)
  writer.text(4, version.digest)
  return writer.take()
}

/** The variant for a routing key. */
export function assign(endpoint: ServedEndpoint, routingKey: string): Assignment {
  const bucket = bucketOf(routingKey, endpoint.message.salt)
  const variant = endpoint.variants[endpoint.table[bucket] as number]
  if (variant === undefined) throw new Error(`bucket ${bucket} of ${endpoint.name} has no variant`)
  return { variant, bucket }
}

/** All endpoints, by id. */
export class RoutingTable {
  readonly #entries = new Map<string, ServedEndpoint>()
  readonly #listeners = new Set<(endpoint: ServedEndpoint, deleted: boolean) => void>()

  /** The endpoint of an id, if there is one. */
  find(id: string): ServedEndpoint | undefined {
    return this.#entries.get(id)
  }

  /** The endpoint of a resource name `endpoints/{endpoint}`. Throws NOT_FOUND. */
  get(name: string): ServedEndpoint {
    const entry = this.#entries.get(name.slice('endpoints/'.length))
    if (entry !== undefined && entry.name === name) return entry
    const echoed = name.slice(0, MAX_ECHOED_CHARACTERS)
    throw new Failure(Code.NOT_FOUND, 'ENDPOINT_NOT_FOUND', `there is no ${echoed}`, { metadata: { endpoint: echoed } })
  }

  /** All endpoints by name. */
  list(): ServedEndpoint[] {
    return [...this.#entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** Puts an endpoint in place of what was there. */
  put(entry: ServedEndpoint): void {
    this.#entries.set(entry.id, entry)
    for (const listener of this.#listeners) listener(entry, false)
  }

  /** Takes an endpoint out. */
  remove(name: string): void {
    const entry = this.get(name)
    this.#entries.delete(entry.id)
    for (const listener of this.#listeners) listener(entry, true)
  }

  /** Tells of every change from now on; returns how to stop. */
  onChange(listener: (endpoint: ServedEndpoint, deleted: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
