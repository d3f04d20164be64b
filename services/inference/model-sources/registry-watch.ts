/**
 * Follows the registry: every alias that moves there moves here. The registry may be away for as long as it likes; what was
 * known stays, and the watch goes on from the revision that was last applied.
 */
import type { RegistryChange, RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'
import type { RegistryState } from './registry-state.ts'

/** What a watch needs from around it. */
export interface RegistryWatchOptions {
  readonly registry: Client<typeof RegistryService>
  readonly state: RegistryState
  /** Aliases have moved; told when everything that is known has been applied. */
  readonly onMove: () => void
  /** The watch has caught up with the registry for the first time. */
  readonly onCaughtUp: () => void
  /** The watch broke; it is tried again. */
  readonly onBroken: (failure: Failure) => void
  readonly firstDelayMs: number
  readonly maxDelayMs: number
}

/** Starts following; returns what stops it. */
export function watchRegistry(options: RegistryWatchOptions): { stop(): Promise<void> } {
  const stopping = new AbortController()
  const done = follow(options, stopping.signal)
  return {
    stop: async () => {
      stopping.abort()
      await done
    },
  }
}

async function follow(options: RegistryWatchOptions, signal: AbortSignal): Promise<void> {
  const { registry, state, onMove, onCaughtUp, onBroken, firstDelayMs, maxDelayMs } = options
  let delayMs = firstDelayMs
  let wasCaughtUp = false
  let hasMoved = false
  while (!signal.aborted) {
    try {
      for await (const { change, latestRevision } of registry.watch({ afterRevision: state.revision }, { signal })) {
        delayMs = firstDelayMs
        if (change !== undefined) hasMoved = apply(state, change) || hasMoved
        // What happened in between is history: an alias is followed to where it points now.
        if (state.revision < latestRevision) continue
        await state.flush()
        if (hasMoved) onMove()
        hasMoved = false
        if (!wasCaughtUp) onCaughtUp()
        wasCaughtUp = true
      }
    } catch (error) {
      if (signal.aborted) return
      const failure = Failure.from(error)
      onBroken(failure)
      if (failure.code === Code.OUT_OF_RANGE) {
        state.reset()
        onMove()
      }
    }
    await pause(delayMs, signal)
    delayMs = Math.min(delayMs * 2, maxDelayMs)
  }
}

/** Applies a change; true when an alias has moved. */
function apply(state: RegistryState, { change, revision }: RegistryChange): boolean {
  state.setRevision(revision)
  if (change.case !== 'alias') return false
  const { name, version } = change.value
  state.setAlias(name, version === '' ? undefined : version)
  return true
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, delayMs)
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        resolve()
      },
      { once: true },
    )
  })
}
