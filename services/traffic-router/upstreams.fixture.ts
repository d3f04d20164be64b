/** Registry, feature store and inference as small real servers, for tests of the router. */
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  GRPCInferenceService,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelStreamInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { FeatureStatus, ValueType } from '@slipway/proto/slipway/features/v1/value'
import {
  type ExplainRequest,
  type ExplainResponseSchema,
  ExplainService,
} from '@slipway/proto/slipway/inference/v1/explain_service'
import { LoadState, ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import {
  FeatureSource,
  FeatureType,
  GateState,
  type ModelVersion,
  ModelVersionSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, createServer, Failure, implement, implementRawStream, type RpcServer } from '@slipway/rpc'

const DISTANCE = { feature: 'distance', type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: 'x', column: 0 }
const HOUR = { feature: 'hour', type: FeatureType.INT64, source: FeatureSource.REQUEST, input: 'x', column: 1 }
const MEAN_DELAY = {
  feature: 'mean_delay',
  type: FeatureType.DOUBLE,
  source: FeatureSource.FEATURE_STORE,
  reference: 'route_stats:mean_delay',
  input: 'x',
  column: 2,
}

/** A version of `models/flights` with inputs `x` [-1, 3] and outputs `probability` and `version`. */
export function testVersion(number: number, changes: Partial<ModelVersion> = {}): ModelVersion {
  const version = create(ModelVersionSchema, {
    name: `models/flights/versions/${number}`,
    digest: `sha256:${String(number).padStart(64, '0')}`,
    signature: {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1n, 3n] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1n, 2n] }],
    },
    features: [DISTANCE, HOUR, MEAN_DELAY],
    outputs: [
      { output: 'probability', tensor: 'y', column: 0 },
      { output: 'version', tensor: 'y', column: 1 },
    ],
    featureService: 'featureServices/flights',
    gateState: GateState.PASSED,
  })
  return { ...version, ...changes }
}

interface Stoppable {
  readonly address: string
  stop(): Promise<void>
}

async function serve(server: RpcServer): Promise<Stoppable> {
  const { address } = await server.start()
  return { address, stop: async () => await server.drain({ graceMs: 0 }) }
}

/** A registry with versions and aliases that a test sets. */
export class FakeRegistry {
  readonly versions = new Map<string, ModelVersion>()
  readonly aliases = new Map<string, string>()
  #changes: { revision: bigint; alias: string }[] = []
  #wake: () => void = () => {}

  /** Points an alias to a version and tells the watchers. */
  setAlias(alias: string, version: string): void {
    this.aliases.set(alias, version)
    this.#changes.push({ revision: BigInt(this.#changes.length + 1), alias })
    this.#wake()
  }

  async start(port = 0): Promise<Stoppable> {
    return await serve(
      createServer({
        listen: { host: '127.0.0.1', port },
        implementations: [
          implement(RegistryService, {
            getVersion: async ({ name }) => {
              const version = this.versions.get(this.aliases.get(name) ?? name)
              if (version === undefined) throw new Failure(Code.NOT_FOUND, 'VERSION_NOT_FOUND', `there is no ${name}`)
              return version
            },
            watch: ({ afterRevision }, { signal }) => this.#watch(afterRevision, signal),
          }),
        ],
      }),
    )
  }

  async *#watch(afterRevision: bigint, signal: AbortSignal) {
    let seen = afterRevision
    yield { latestRevision: BigInt(this.#changes.length) }
    while (!signal.aborted) {
      for (const { revision, alias } of this.#changes.filter((change) => change.revision > seen)) {
        seen = revision
        const value = { name: alias, version: this.aliases.get(alias) ?? '' }
        yield {
          change: { revision, change: { case: 'alias' as const, value } },
          latestRevision: BigInt(this.#changes.length),
        }
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        signal.addEventListener('abort', () => resolve(), { once: true })
        if (BigInt(this.#changes.length) > seen) resolve()
      })
    }
  }
}

/** A feature store that knows `route_stats:mean_delay` of some routes. */
export class FakeFeatureStore {
  readonly meanDelays = new Map<string, number>()
  /** Rows of each call. */
  readonly calls: number[] = []
  readonly traceparents: (string | undefined)[] = []

  async start(port = 0): Promise<Stoppable> {
    return await serve(
      createServer({
        listen: { host: '127.0.0.1', port },
        implementations: [
          implement(FeatureStoreService, {
            getOnlineFeatures: async ({ entityRows }, context) => {
              this.calls.push(entityRows.length)
              this.traceparents.push(context.header('traceparent'))
              return {
                features: ['route_stats:flights', 'route_stats:mean_delay'],
                types: [ValueType.INT64, ValueType.DOUBLE],
                vectors: entityRows.map(({ keys }) => {
                  const route = keys.route?.kind
                  if (route?.case !== 'stringValue') throw Failure.invalid('entity_rows.keys', 'route must be a text')
                  const delay = this.meanDelays.get(route.value)
                  const status = delay === undefined ? FeatureStatus.NOT_FOUND : FeatureStatus.PRESENT
                  return {
                    statuses: [status, status],
                    doubles: [delay ?? Number.NaN],
                    int64s: [7n],
                    eventTimesMicros: delay === undefined ? [0n, 0n] : [1_000_000_000_000_000n, 1_000_000_000_000_001n],
                  }
                }),
              }
            },
          }),
        ],
      }),
    )
  }
}

/** Inference that answers `x[0] + 1000 * x[2]` and the version's number, for the versions that it was told to load. */
export class FakeInference {
  readonly loaded = new Set<string>()
  readonly traceparents: string[] = []
  /** Microseconds that each request was given. */
  readonly timeouts: number[] = []
  /** Loads that are refused, by version. */
  readonly refused = new Map<string, Failure>()
  /** Answers that are held back until the promise resolves. */
  hold: Promise<void> | undefined
  requests = 0
  /** What was asked to be explained. */
  readonly explained: ExplainRequest[] = []
  /** Explanations that are held back until the promise resolves. */
  holdExplanations: Promise<void> | undefined
  /** Explanations fail with this. */
  explanationFailure: Failure | undefined

  async start(port = 0): Promise<Stoppable> {
    return await serve(
      createServer({
        listen: { host: '127.0.0.1', port },
        implementations: [
          implement(GRPCInferenceService, { serverReady: async () => ({ ready: true }) }),
          implementRawStream(GRPCInferenceService.method.modelStreamInfer, (stream) => {
            let inFlight = 0
            let isEnded = false
            stream.onMessage((message) => {
              inFlight++
              void this.#answer(message).then((answer) => {
                stream.write(answer)
                inFlight--
                if (isEnded && inFlight === 0) stream.end()
              })
            })
            stream.onEnd(() => {
              isEnded = true
              if (inFlight === 0) stream.end()
            })
          }),
          implement(ExplainService, { explain: async (request) => await this.#explain(request) }),
          implement(ModelControlService, {
            loadVersion: async ({ name, digest }) => {
              const refusal = this.refused.get(name)
              if (refusal !== undefined) throw refusal
              this.loaded.add(name)
              return { name, digest, state: LoadState.READY }
            },
          }),
        ],
      }),
    )
  }

  /** The answer is a sum: what each feature adds to an answer of 0 is its part of it. */
  async #explain(request: ExplainRequest): Promise<MessageInitShape<typeof ExplainResponseSchema>> {
    this.explained.push(request)
    await this.holdExplanations
    if (this.explanationFailure !== undefined) throw this.explanationFailure
    const tensors = request.rows.case === 'tensors' ? request.rows.value : undefined
    const input = Buffer.from(tensors?.rawInputContents[0] ?? [])
    const rows = Array.from({ length: input.length / 12 }, (_, row) => row * 12)
    return {
      digest: testVersion(Number(request.version)).digest,
      features: ['mean_delay', 'distance', 'hour'],
      baseValue: -1,
      explanations: rows.map((at) => ({
        attributions: [1_000 * input.readFloatLE(at + 8), input.readFloatLE(at) + 1, 0],
      })),
    }
  }

  async #answer(message: Buffer): Promise<Uint8Array> {
    this.requests++
    const request = fromBinary(ModelInferRequestSchema, message)
    const traceparent = request.parameters.traceparent?.parameterChoice
    if (traceparent?.case === 'stringParam') this.traceparents.push(traceparent.value)
    const timeout = request.parameters.timeout?.parameterChoice
    if (timeout?.case === 'int64Param') this.timeouts.push(Number(timeout.value))
    await this.hold
    const name = `models/${request.modelName}/versions/${request.modelVersion}`
    if (!this.loaded.has(name)) return failed(request.id, Code.NOT_FOUND, 'VERSION_NOT_FOUND', `${name} is not loaded`)
    const input = Buffer.from(request.rawInputContents[0] ?? [])
    const rows = Number(request.inputs[0]?.shape[0] ?? 0n)
    const output = Buffer.alloc(rows * 8)
    for (let row = 0; row < rows; row++) {
      const first = input.readFloatLE(row * 12)
      if (first < 0) return failed(request.id, Code.INVALID_ARGUMENT, 'NEGATIVE', `row ${row} is negative`)
      output.writeFloatLE(first + 1_000 * input.readFloatLE(row * 12 + 8), row * 8)
      output.writeFloatLE(Number(request.modelVersion), row * 8 + 4)
    }
    const inferResponse = create(ModelInferResponseSchema, {
      modelName: request.modelName,
      modelVersion: request.modelVersion,
      id: request.id,
      outputs: [{ name: 'y', datatype: 'FP32', shape: [BigInt(rows), 2n] }],
      rawOutputContents: [output],
    })
    return toBinary(ModelStreamInferResponseSchema, create(ModelStreamInferResponseSchema, { inferResponse }))
  }
}

function failed(id: string, code: Code, reason: string, errorMessage: string): Uint8Array {
  const parameters = {
    error_code: { parameterChoice: { case: 'int64Param' as const, value: BigInt(code) } },
    error_reason: { parameterChoice: { case: 'stringParam' as const, value: reason } },
  }
  const response = create(ModelStreamInferResponseSchema, { errorMessage, inferResponse: { id, parameters } })
  return toBinary(ModelStreamInferResponseSchema, response)
}
