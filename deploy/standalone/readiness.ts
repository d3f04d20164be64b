/** Waits until every service says SERVING. */
import { setTimeout as delay } from 'node:timers/promises'
import { Health, HealthCheckResponse_ServingStatus } from '@slipway/proto/grpc/health/v1/health'
import { createClient, type Failure } from '@slipway/rpc'
import type { Addresses } from './system.ts'

const askEveryMs = 100
const askTimeoutMs = 1_000

/** Resolves when all of these services serve; throws, naming those that do not, after `withinMs` or when `signal` says so. */
export async function untilServing(
  addresses: Partial<Addresses>,
  { withinMs, signal }: { withinMs: number; signal: AbortSignal },
): Promise<void> {
  const waiting = new Set(Object.keys(addresses))
  const giveUp = AbortSignal.any([AbortSignal.timeout(withinMs), signal])
  await Promise.all(
    Object.entries(addresses).map(async ([name, address]) => {
      const client = createClient(Health, { address, timeoutMs: askTimeoutMs })
      try {
        while (!giveUp.aborted && waiting.has(name)) {
          const status = await client.check({}).then(
            (answer) => answer.status,
            (_failure: Failure) => HealthCheckResponse_ServingStatus.UNKNOWN,
          )
          if (status === HealthCheckResponse_ServingStatus.SERVING) waiting.delete(name)
          else await delay(askEveryMs)
        }
      } finally {
        client.close()
      }
    }),
  )
  if (waiting.size > 0) throw new Error(`not serving after ${withinMs / 1000} s: ${[...waiting].join(', ')}`)
}
