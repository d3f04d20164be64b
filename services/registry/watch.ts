import { create } from '@bufbuild/protobuf'
import { type WatchResponse, WatchResponseSchema } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, Failure } from '@slipway/rpc'
import type { Ledger } from './ledger.ts'

/** How a watch is paced. */
export interface WatchOptions {
  /** Changes read at once. */
  readonly batchSize: number
  /** Longest silence: then a sign of life is sent, and the ledger is read again for what another process wrote. */
  readonly heartbeatMs: number
}

/**
 * Every change after a revision, in order, and then on as they happen. Ends with the caller's signal; when the service
 * stops, with UNAVAILABLE, so that the watcher comes back with the last revision it saw.
 */
export async function* watch(
  ledger: Ledger,
  afterRevision: bigint,
  options: WatchOptions,
  caller: AbortSignal,
  stopping: AbortSignal,
): AsyncGenerator<WatchResponse> {
  const signal = AbortSignal.any([caller, stopping])
  const newest = await ledger.latestRevision()
  if (afterRevision > BigInt(newest)) {
    const message = `revision ${afterRevision} does not exist yet, the newest is ${newest}: this is another registry`
    throw new Failure(Code.OUT_OF_RANGE, 'REVISION_OUT_OF_RANGE', message, { metadata: { latest: String(newest) } })
  }
  let seen = Number(afterRevision)
  while (!signal.aborted) {
    const changes = await ledger.read(seen, options.batchSize)
    const latest = Number(changes.at(-1)?.revision ?? seen)
    const latestRevision = changes.length < options.batchSize ? latest : await ledger.latestRevision()
    for (const change of changes) {
      yield create(WatchResponseSchema, { change, latestRevision: BigInt(latestRevision) })
      seen = Number(change.revision)
    }
    if (changes.length > 0) continue
    yield create(WatchResponseSchema, { latestRevision: BigInt(seen) })
    await ledger.wait(seen, options.heartbeatMs, signal)
  }
  if (!caller.aborted) throw new Failure(Code.UNAVAILABLE, 'STOPPING', 'the registry stops: watch again')
}
