import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type ClientTls, createClient } from '@slipway/rpc'
import type { Logger } from '@slipway/telemetry'
import { splitVersionName } from '../model-source.ts'
import type { ModelTable } from '../model-table.ts'
import { ArtifactCache } from './artifact-cache.ts'
import type { ModelOrigin } from './model-origin.ts'
import { fetchFromRegistry, RegistrySource } from './registry-source.ts'
import { RegistryState } from './registry-state.ts'
import { watchRegistry } from './registry-watch.ts'

const DESCRIBE_TIMEOUT_MS = 10_000

/** What an origin needs from around it. */
export interface RegistryOriginOptions {
  readonly registryAddress: string
  readonly tls: ClientTls | undefined
  /** Folder of the cache and of what is known of the registry. */
  readonly dataDirectory: string
  readonly maxCacheBytes: number
  /** A version that nobody wants any more is let go when it had no caller for so long. */
  readonly idleMs: number
  readonly models: ModelTable
  readonly log: Logger
}

/** Versions come from a registry, and its aliases say which are wanted. The registry may be away. */
export async function openRegistryOrigin(options: RegistryOriginOptions): Promise<ModelOrigin> {
  const { registryAddress, tls, dataDirectory, maxCacheBytes, models, log } = options
  const registry = createClient(RegistryService, { address: registryAddress, tls })
  const state = await RegistryState.open(join(dataDirectory, 'registry.json'))
  const layoutDirectory = join(dataDirectory, 'layout')
  // What was laid out before is laid out anew when it is loaded: nothing that a process left behind takes room for ever.
  await rm(layoutDirectory, { recursive: true, force: true })
  const cache = new ArtifactCache({
    directory: join(dataDirectory, 'cache'),
    maxBytes: maxCacheBytes,
    fetch: fetchFromRegistry(registry),
    held: () => state.fileDigests((version) => isInUse(version, state, models)),
  })
  let watch: ReturnType<typeof watchRegistry> | undefined
  return {
    wanted: state,
    source: new RegistrySource({ registry, state, cache, layoutDirectory }),
    describe: (name) => registry.getVersion({ name }, { timeoutMs: DESCRIBE_TIMEOUT_MS }),
    unwantedIdleMs: options.idleMs,
    repository: (residency) => ({
      load: (model) => residency.loadModel(model),
      unload: (model) => residency.unloadModel(model),
    }),
    follow(residency) {
      residency.followAliases()
      watch = watchRegistry({
        registry,
        state,
        firstDelayMs: 100,
        maxDelayMs: 5000,
        onMove: () => residency.followAliases(),
        onCaughtUp: () => log.info('caught up with the registry', { revision: state.revision }),
        onBroken: ({ message }) =>
          log.warn('the registry cannot be watched; what is loaded goes on', { reason: message }),
      })
    },
    unfollow: async () => await watch?.stop(),
    close: () => registry.close(),
  }
}

/** The files of these stay on disk, whatever the bound: they must be there when the registry is not. */
function isInUse(version: string, state: RegistryState, models: ModelTable): boolean {
  if (Object.values(state.aliases).includes(version)) return true
  const { model, number } = splitVersionName(version)
  const kind = models.get(model, number)?.kind
  return kind === 'ready' || kind === 'loading' || kind === 'unloading'
}
