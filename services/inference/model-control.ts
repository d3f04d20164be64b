import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  LoadedBy,
  LoadState,
  type ModelControlService,
} from '@slipway/proto/slipway/inference/v1/model_control_service'
import type { Handlers } from '@slipway/rpc'
import { splitVersionName } from './model-source.ts'
import type { ModelTable, VersionState } from './model-table.ts'
import type { Residency } from './residency-loop.ts'
import type { WorkCounts } from './servable.ts'

const states: Readonly<Record<VersionState['kind'], LoadState>> = {
  loading: LoadState.LOADING,
  ready: LoadState.READY,
  unloading: LoadState.UNLOADING,
  failed: LoadState.FAILED,
  unloaded: LoadState.UNLOADED,
}

/** Has versions loaded and let go on request. */
export function createModelControlService(
  models: ModelTable,
  residency: Residency,
): Handlers<typeof ModelControlService> {
  return {
    async loadVersion({ name, digest, loadedBy }) {
      await residency.load(name, digest, loadedBy === LoadedBy.ENDPOINT ? 'endpoint' : 'request')
      return describe(models, name)
    },
    async unloadVersion({ name }) {
      const before = describe(models, name)
      await residency.unload(name)
      return { ...before, state: LoadState.UNLOADING }
    },
    async listLoadedVersions() {
      const names = [...models].map(({ model, version }) => `models/${model}/versions/${version}`)
      return { versions: names.sort().map((name) => describe(models, name)) }
    },
  }
}

function describe(models: ModelTable, name: string) {
  const { model, number } = splitVersionName(name)
  const found = models.get(model, number)
  if (found === undefined) return { name, state: LoadState.UNSPECIFIED }
  if (found.kind === 'loading') return { name, state: states.loading }
  if (found.kind === 'failed') return { name, state: states.failed, message: found.failure.message }
  if (found.kind === 'unloaded') {
    const { digest = '', sizeBytes = 0 } = found.last ?? {}
    const message = 'it is loaded for its next caller'
    return { name, state: states.unloaded, message, digest, sizeBytes: BigInt(sizeBytes) }
  }
  const { digest, sizeBytes, memoryBytes, isQuarantined } = found.served
  return {
    name,
    digest,
    sizeBytes: BigInt(sizeBytes),
    memoryBytes: BigInt(memoryBytes ?? 0),
    work: describeWork(found.served.counts),
    state: isQuarantined ? LoadState.FAILED : states[found.kind],
    message: isQuarantined ? 'quarantined: its executor died too often' : '',
    ...(found.kind === 'ready' ? { readyTime: timestampFromMs(found.readyTimeMs) } : {}),
  }
}

function describeWork({ queued, batches, rows, expired, cancelled, shed, executedAfterDeadline }: WorkCounts) {
  return {
    queued: BigInt(queued),
    batches: BigInt(batches),
    rows: BigInt(rows),
    expired: BigInt(expired),
    cancelled: BigInt(cancelled),
    shed: BigInt(shed),
    executedAfterDeadline: BigInt(executedAfterDeadline),
  }
}
