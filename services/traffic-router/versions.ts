/** What the router asks others about versions: the registry what they are, inference to hold them ready. */
import { LoadedBy, type ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { GateState, type ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'

/** Where versions come from and where they run. */
export interface VersionSource {
  /**
   * The version that a target (a version or an alias) names now, without its reference distributions. Throws UNAVAILABLE
   * when the registry is away.
   */
  resolve(target: string): Promise<ModelVersion>
  /** Returns when inference answers for a version. Throws UNAVAILABLE when inference is away. */
  load(version: ModelVersion): Promise<void>
}

/** The real source: the registry's and inference's clients. Loading may take as long as the caller's deadline allows. */
export function createVersionSource(deps: {
  registry: Client<typeof RegistryService>
  modelControl: Client<typeof ModelControlService>
  loadTimeoutMs: number
}): VersionSource {
  return {
    async resolve(target) {
      try {
        const version = await deps.registry.getVersion({ name: target })
        return { ...version, referenceDistributions: [] }
      } catch (error) {
        throw namedFailure(error, 'registry', target)
      }
    },
    async load(version) {
      try {
        await deps.modelControl.loadVersion(
          { name: version.name, digest: version.digest, loadedBy: LoadedBy.ENDPOINT },
          { timeoutMs: deps.loadTimeoutMs },
        )
      } catch (error) {
        throw namedFailure(error, 'inference', version.name)
      }
    },
  }
}

/** Whether a failure says that the other side is away, not that it said no. */
export function isAway(error: unknown): boolean {
  const code = Failure.from(error).code
  return code === Code.UNAVAILABLE || code === Code.DEADLINE_EXCEEDED
}

/** Throws FAILED_PRECONDITION when a version may not get traffic. */
export function requireDeployable(version: ModelVersion): void {
  if (version.gateState === GateState.PASSED) return
  const state = version.gateState === GateState.FAILED ? 'failed' : 'has not been run'
  throw new Failure(Code.FAILED_PRECONDITION, 'GATE_NOT_PASSED', `the gate of ${version.name} ${state}`, {
    metadata: { version: version.name, digest: version.digest },
  })
}

function namedFailure(error: unknown, service: string, what: string): Failure {
  const failure = Failure.from(error)
  if (failure.code === Code.INTERNAL || failure.code === Code.UNKNOWN) return failure
  return new Failure(failure.code, failure.reason, `${what}: ${service} says: ${failure.message}`, {
    metadata: failure.metadata,
    cause: failure,
    ...(failure.retryAfterMs === undefined ? {} : { retryAfterMs: failure.retryAfterMs }),
  })
}
