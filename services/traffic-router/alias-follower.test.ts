import { Code, Failure } from '@slipway/rpc'
import { logger } from '@slipway/telemetry'
import { expect, test } from 'vitest'
import { AliasFollower, type AliasFollowerOptions } from './alias-follower.ts'
import { RoutingTable } from './routing-table.ts'

test('a registry that has not come as far as it was followed is followed from its beginning', async () => {
  const asked: bigint[] = []
  let kept = 40n
  const registry = {
    async *watch({ afterRevision }: { afterRevision: bigint }, { signal }: { signal: AbortSignal }) {
      asked.push(afterRevision)
      if (afterRevision > 3n) throw new Failure(Code.OUT_OF_RANGE, 'REVISION_OUT_OF_RANGE', 'another registry')
      yield { change: { revision: 3n, change: { case: undefined } }, latestRevision: 3n }
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    },
  }
  const follower = new AliasFollower({
    registry: registry as unknown as AliasFollowerOptions['registry'],
    deployment: { follow: async () => undefined },
    store: {
      registryRevision: async () => kept,
      setRegistryRevision: async (revision) => {
        kept = revision
      },
    },
    table: new RoutingTable(),
    log: logger('test'),
  })
  follower.start()
  await expect.poll(() => kept).toBe(3n)
  expect(asked).toEqual([40n, 0n])
  await follower.stop()
})
