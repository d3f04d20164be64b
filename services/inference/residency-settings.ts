import type { SettingsReader } from '@slipway/config'
import type { ResidencyPolicy } from './residency.ts'

/** Settings of which versions are held ready. */
export interface ResidencySettings {
  /** Memory that loaded versions may take. */
  readonly maxLoadedBytes: number
  /** A version that is wanted, though by no alias, is let go when it had no caller for so long. */
  readonly idleMs: number
  /** The same for one that an alias points to; undefined: never. */
  readonly aliasedIdleMs: number | undefined
  /** Callers that may wait for one version to be loaded. */
  readonly maxLoadWaiters: number
}

/** Memory of a session, as a multiple of the bytes of its files, and of what runs it: until it is measured. */
const MEMORY_FACTOR = 2
const EXECUTOR_BYTES = 10 * 1024 * 1024
/** Versions that are remembered as let go. */
const MAX_UNLOADED = 10_000

/** Reads them. */
export function readResidencySettings(read: SettingsReader): ResidencySettings {
  const unloadsAliased = read.boolean('SLIPWAY_INFERENCE_UNLOAD_ALIASED', {
    doc: 'whether idle time lets go what an alias points to, too',
    default: false,
  })
  const idleMs = read.durationMs('SLIPWAY_INFERENCE_IDLE', {
    doc: 'time without a caller after which a version is let go, until the next one',
    default: '1h',
  })
  return {
    idleMs,
    aliasedIdleMs: unloadsAliased ? idleMs : undefined,
    maxLoadedBytes: read.bytes('SLIPWAY_INFERENCE_MAX_LOADED_BYTES', {
      doc: 'memory that loaded versions may take',
      default: '4GiB',
    }),
    maxLoadWaiters: read.integer('SLIPWAY_INFERENCE_MAX_LOAD_WAITERS', {
      doc: 'callers that may wait for one version to be loaded',
      default: 1024,
      min: 1,
      max: 1_000_000,
    }),
  }
}

/** The policy that follows from the settings. What nobody wants any more goes after `unwantedIdleMs`. */
export function policyOf(settings: ResidencySettings, unwantedIdleMs: number): ResidencyPolicy {
  return {
    maxLoading: 2,
    maxMemoryBytes: settings.maxLoadedBytes,
    idleMs: settings.idleMs,
    aliasedIdleMs: settings.aliasedIdleMs ?? Number.POSITIVE_INFINITY,
    unwantedIdleMs,
    keepMs: 2000,
    maxDemandMs: 60_000,
    maxUnloaded: MAX_UNLOADED,
    retryMs: 500,
    maxRetryMs: 30_000,
  }
}

/** Memory of a version before it is measured: each executor has a session of its own. */
export function memoryEstimate(executorsPerVersion: number): (fileBytes: number) => number {
  return (fileBytes) => (EXECUTOR_BYTES + fileBytes * MEMORY_FACTOR) * executorsPerVersion
}
