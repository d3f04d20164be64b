/** The rows that a version's predictions are compared with, and what the registry says of its features. */
import { create, fromBinary } from '@bufbuild/protobuf'
import { BACKGROUND_FILE, FeatureValueError, featureTensors } from '@slipway/models'
import { type ModelInferRequest, ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Baseline } from '@slipway/proto/slipway/inference/v1/explain_service'
import { BackgroundRowsSchema } from '@slipway/proto/slipway/registry/v1/background'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { drawMarginals } from './marginals.ts'
import { type RowTable, readTable } from './row-table.ts'

/** Most background rows of one version or one request. */
export const MAX_BACKGROUND_ROWS = 4096
/** Largest file of background rows. */
const MAX_BACKGROUND_BYTES = 16 * 1024 * 1024
/** Versions whose background is kept in memory; the one that was not explained for longest goes first. */
const MAX_KEPT_VERSIONS = 32

/** What is needed of a version beyond its model. */
export type Description = Pick<ModelVersion, 'digest' | 'features' | 'outputs' | 'referenceDistributions'>

/** Where a version's reference data is. */
export interface ReferenceSource {
  /** What the registry says of a version; undefined where there is no registry. */
  describe(name: string): Promise<Description | undefined>
  /** The version's files, whose digests are checked. */
  files(name: string): Promise<{
    readonly files: readonly { readonly path: string; readonly sizeBytes: number }[]
    read(path: string): Promise<Uint8Array>
  }>
}

/** Rows to compare with. */
export interface Background {
  readonly kind: Baseline
  readonly table: RowTable
  /** Answers to the first rows, by output; kept from one explanation to the next. */
  readonly predictions: Map<string, readonly number[]>
}

/** What a version's explanations need, each part fetched when it is first asked for. */
export interface Reference {
  readonly features: Description['features']
  readonly outputs: Description['outputs']
  background(): Promise<Background>
}

/** References of the versions that were explained last. */
export class References {
  readonly #source: ReferenceSource
  readonly #kept = new Map<string, Promise<Reference>>()

  constructor(source: ReferenceSource) {
    this.#source = source
  }

  /** The reference of a version; what fails is tried again by the next who asks. */
  async get(served: Servable): Promise<Reference> {
    const key = `${served.name}@${served.digest}`
    const known = this.#kept.get(key)
    this.#kept.delete(key)
    const reference = known ?? describe(served, this.#source)
    this.#kept.set(key, reference)
    const oldest = this.#kept.keys().next().value
    if (this.#kept.size > MAX_KEPT_VERSIONS && oldest !== undefined) this.#kept.delete(oldest)
    try {
      return await reference
    } catch (error) {
      if (this.#kept.get(key) === reference) this.#kept.delete(key)
      throw error
    }
  }
}

async function describe(served: Servable, source: ReferenceSource): Promise<Reference> {
  const version = await source.describe(served.name)
  if (version !== undefined && version.digest !== served.digest)
    throw refusal.digestMismatch(served.name, served.digest, version.digest)
  let background: Promise<Background> | undefined
  return {
    features: version?.features ?? [],
    outputs: version?.outputs ?? [],
    background: async () => {
      background ??= findBackground(served, source, version)
      try {
        return await background
      } catch (error) {
        background = undefined
        throw error
      }
    },
  }
}

async function findBackground(
  served: Servable,
  source: ReferenceSource,
  version: Description | undefined,
): Promise<Background> {
  const files = await source.files(served.name)
  const file = files.files.find(({ path }) => path === BACKGROUND_FILE)
  if (file !== undefined) {
    if (file.sizeBytes > MAX_BACKGROUND_BYTES)
      throw badBaseline(served, `${BACKGROUND_FILE} is larger than ${MAX_BACKGROUND_BYTES} bytes`)
    return registeredRows(served, await files.read(BACKGROUND_FILE))
  }
  const rows = version && drawMarginals(version.features, version.referenceDistributions, version.digest)
  if (version === undefined || rows === undefined || version.features.length === 0) throw noBaseline(served)
  const inputs = served.signature.inputs.map((input) => ({ ...input, shape: input.shape.map(BigInt) }))
  try {
    return backgroundOf(Baseline.MARGINALS, requestOf(featureTensors(inputs, version.features, rows)), served)
  } catch (cause) {
    if (cause instanceof FeatureValueError || cause instanceof RangeError) throw noBaseline(served, cause)
    throw cause
  }
}

function registeredRows(served: Servable, bytes: Uint8Array): Background {
  try {
    return backgroundOf(Baseline.ROWS, requestOf(fromBinary(BackgroundRowsSchema, bytes).inputs), served)
  } catch (cause) {
    throw badBaseline(served, `${BACKGROUND_FILE} does not fit the model: ${(cause as Error).message}`)
  }
}

/** Background rows in a request's tensors. Throws INVALID_ARGUMENT when they do not fit the model. */
export function backgroundOf(kind: Baseline, request: ModelInferRequest, served: Servable): Background {
  const table = readTable(request, served)
  if (table.rows < 1 || table.rows > MAX_BACKGROUND_ROWS)
    throw Failure.invalid('background', `has ${table.rows} rows; 1 to ${MAX_BACKGROUND_ROWS} can be compared with`)
  return { kind, table, predictions: new Map() }
}

/** Tensors as a request. */
export function requestOf(
  tensors: readonly {
    readonly name: string
    readonly datatype: string
    readonly shape: readonly bigint[]
    readonly raw: Uint8Array
  }[],
): ModelInferRequest {
  return create(ModelInferRequestSchema, {
    inputs: tensors.map(({ name, datatype, shape }) => ({ name, datatype, shape: [...shape] })),
    rawInputContents: tensors.map(({ raw }) => raw),
  })
}

function noBaseline({ name }: Servable, cause?: unknown): Failure {
  const message =
    `${name} has no rows to compare with: register it with ${BACKGROUND_FILE} or with reference distributions ` +
    'of all its features, or send a background with the request'
  return new Failure(Code.FAILED_PRECONDITION, 'NO_BASELINE', message, { cause })
}

function badBaseline({ name }: Servable, why: string): Failure {
  return new Failure(Code.FAILED_PRECONDITION, 'BAD_BASELINE', `${name} cannot be explained: ${why}`)
}
