import type { Servable } from '../servable.ts'
import { CachedVersion } from './cached-version.ts'
import { ResponseStore } from './response-store.ts'
import type { ResponseCacheSettings } from './settings.ts'

/** Gives a version that was started its cache, if it is to have one. */
export type KeepResponses = (version: Servable) => Servable

/** Makes the response cache of a server; one store for all its models, so that its bound is one. */
export function createResponseCache(settings: ResponseCacheSettings): KeepResponses {
  const { maxCachedResponseBytes: maxBytes, responseTtlMs: ttlMs, cachedModels } = settings
  if (maxBytes === 0) return (version) => version
  const store = new ResponseStore({ maxBytes, ttlMs })
  return (version) => {
    const isCached = cachedModels === undefined || cachedModels.has(version.model)
    return isCached ? new CachedVersion(version, store) : version
  }
}
