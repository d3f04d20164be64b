import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  EntityRowSchema,
  FeatureVectorSchema,
  type GetOnlineFeaturesRequest,
  GetOnlineFeaturesRequestSchema,
  GetOnlineFeaturesResponseSchema,
} from '@slipway/proto/slipway/features/v1/feature_store_service'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { Code, Failure } from '@slipway/rpc'
import { describe, expect, test } from 'vitest'
import { FeatureReader } from './features.ts'
import { type Plan, planVersion } from './plan.ts'
import { testVersion } from './upstreams.fixture.ts'

const planned = planVersion(testVersion(1))
const plan = 'plan' in planned ? planned.plan : ({} as Plan)

/** A store that answers the number in the key; key `bad` is refused, and calls wait for `gate`. */
function scripted(limits: { maxCalls?: number; maxWaiting?: number } = {}) {
  const calls: GetOnlineFeaturesRequest[] = []
  let gate: Promise<void> = Promise.resolve()
  const reader = new FeatureReader({
    maxCalls: limits.maxCalls ?? 2,
    maxWaiting: limits.maxWaiting ?? 1_000,
    call: async (bytes) => {
      const request = fromBinary(GetOnlineFeaturesRequestSchema, bytes)
      calls.push(request)
      await gate
      const keys = request.entityRows.map(({ keys: { route } }) => String(route?.kind.value))
      if (keys.includes('bad')) throw new Failure(Code.INVALID_ARGUMENT, 'BAD_KEY', 'no such key')
      if (keys.includes('away')) throw new Failure(Code.UNAVAILABLE, 'CONNECTION_LOST', 'gone')
      const response = create(GetOnlineFeaturesResponseSchema, {
        features: ['route_stats:name', 'route_stats:mean_delay', 'route_stats:count'],
        types: [ValueType.STRING, ValueType.DOUBLE, ValueType.INT64],
        vectors: keys.map((key) =>
          create(FeatureVectorSchema, {
            statuses: [1, key === 'none' ? 4 : 1, 1],
            doubles: [Number(key)],
            int64s: [1n],
            strings: ['x'],
            eventTimesMicros: [1n, 1_700_000_000_000_000n, 3n],
          }),
        ),
      })
      return Buffer.from(toBinary(GetOnlineFeaturesResponseSchema, response))
    },
  })
  const read = async (key: string, asOfMicros?: number) =>
    await reader.read({
      featureService: 'featureServices/flights',
      plan,
      entityRow: Buffer.from(
        toBinary(
          EntityRowSchema,
          create(EntityRowSchema, { keys: { route: { kind: { case: 'stringValue', value: key } } } }),
        ),
      ),
      asOfMicros,
      deadlineMs: Date.now() + 5_000,
      trace: undefined,
    })
  const hold = (until: Promise<void>): void => {
    gate = until
  }
  return { calls, read, hold }
}

describe('FeatureReader', () => {
  test('reads of one turn go in one call, and each gets its own row', async () => {
    const { calls, read } = scripted()
    const vectors = await Promise.all(['1', '2', '3'].map(async (key) => await read(key)))
    expect(vectors.map(({ values }) => values)).toEqual([[1], [2], [3]])
    expect(vectors[0]?.timesMicros).toEqual([1_700_000_000_000_000])
    expect(calls.map((call) => call.entityRows.length)).toEqual([3])
    expect(calls[0]?.selection).toEqual({ case: 'featureService', value: 'featureServices/flights' })
  })

  test('a feature that is too old has its status and no value', async () => {
    const { read } = scripted()
    const vector = await read('none')
    expect([...vector.statuses]).toEqual([4])
    expect(vector.values).toEqual([undefined])
  })

  test('reads at different times are different calls, with the time to the microsecond', async () => {
    const { calls, read } = scripted()
    await Promise.all([read('1', 983_450_096_789_123), read('2', -1), read('3')])
    expect(calls.map(({ asOf }) => asOf).map((time) => time && [time.seconds, time.nanos])).toEqual([
      [983_450_096n, 789_123_000],
      [-1n, 999_999_000],
      undefined,
    ])
  })

  test('while all calls are under way reads gather, and leave together', async () => {
    const { calls, read, hold } = scripted({ maxCalls: 1 })
    const gate = Promise.withResolvers<void>()
    hold(gate.promise)
    const first = read('1')
    await expect.poll(() => calls.length).toBe(1)
    const others = Array.from({ length: 600 }, async (_, index) => await read(String(index)))
    hold(Promise.resolve())
    gate.resolve()
    await first
    expect((await Promise.all(others)).map(({ values }) => values[0])).toEqual(others.map((_, index) => index))
    expect(calls.map((call) => call.entityRows.length)).toEqual([1, 256, 256, 88])
  })

  test('a read that the store refuses fails alone', async () => {
    const { read } = scripted()
    const settled = await Promise.allSettled(['1', 'bad', '3'].map(async (key) => await read(key)))
    expect(settled.map((each) => each.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(settled[1]).toMatchObject({ reason: { code: Code.INVALID_ARGUMENT, reason: 'BAD_KEY' } })
  })

  test('a store that is away is not asked again for each read', async () => {
    const { calls, read } = scripted()
    const settled = await Promise.allSettled(['1', 'away', '3'].map(async (key) => await read(key)))
    for (const each of settled) expect(each).toMatchObject({ reason: { reason: 'FEATURE_STORE_UNAVAILABLE' } })
    expect(calls).toHaveLength(1)
  })

  test('more reads than may wait are RESOURCE_EXHAUSTED', async () => {
    const { read } = scripted({ maxWaiting: 2 })
    const settled = await Promise.allSettled(['1', '2', '3'].map(async (key) => await read(key)))
    expect(settled[2]).toMatchObject({ reason: { code: Code.RESOURCE_EXHAUSTED, reason: 'TOO_MANY_FEATURE_READS' } })
  })
})
