import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary } from '@bufbuild/protobuf'
import type { EventBus, EventRecord } from '@slipway/events'
import { consume, openEmbeddedBus, topics } from '@slipway/events'
import { ModelSchema } from '@slipway/proto/slipway/registry/v1/model'
import type { RegistryChange, WatchResponse } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code } from '@slipway/rpc'
import { migrate, openSqlite } from '@slipway/storage'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Ledger } from './ledger.ts'
import { Models } from './models.ts'
import { startOutbox } from './outbox.ts'
import { migrations, type Schema } from './schema.ts'
import { createModel, createPassedVersion, failureOf, startTestRegistry, type TestRegistry } from './test-registry.ts'

describe('watch', () => {
  let registry: TestRegistry

  beforeEach(async () => {
    registry = await startTestRegistry({ SLIPWAY_REGISTRY_WATCH_HEARTBEAT: '50ms' })
  })

  afterEach(async () => {
    await registry.stop()
  })

  async function readUntil(after: bigint, isLast: (response: WatchResponse) => boolean): Promise<RegistryChange[]> {
    const changes: RegistryChange[] = []
    for await (const response of registry.client.watch({ afterRevision: after })) {
      if (response.change) changes.push(response.change)
      if (isLast(response)) return changes
    }
    throw new Error('the watch ended')
  }

  const caughtUp = ({ change }: WatchResponse) => change === undefined

  test('every kind of change is there once, in order, as it was after the change', async () => {
    await createModel(registry)
    const version = await createPassedVersion(registry)
    const name = 'models/flight-delay/aliases/champion'
    const alias = await registry.client.setAlias(
      { name, version: version.name },
      { headers: { 'x-slipway-actor': 'ada' } },
    )
    await registry.client.deleteAlias({ name, etag: alias.etag })
    const changes = await readUntil(0n, caughtUp)
    expect(changes.map(({ revision, change }) => [Number(revision), change.case])).toEqual([
      [1, 'model'],
      [2, 'version'],
      [3, 'version'],
      [4, 'alias'],
      [5, 'alias'],
    ])
    expect(changes[2]?.change.value).toMatchObject({ gateReport: { passed: true }, referenceDistributions: [] })
    expect(changes[3]).toMatchObject({ actor: 'ada', change: { value: alias }, time: alias.updateTime })
    expect(changes[4]?.change.value).toMatchObject({ version: '', generation: 2n })
    const times = changes.map(({ time }) => Number(time?.seconds) * 1e6 + Number(time?.nanos) / 1000)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect(new Set(times).size).toBe(times.length)
  })

  test('a watch goes on from any revision, also across a restart, and hears what happens while it waits', async () => {
    for (const id of ['a', 'b', 'c']) await createModel(registry, id)
    await registry.restart()
    const heard = readUntil(1n, ({ change }) => change?.revision === 4n)
    await createModel(registry, 'd')
    expect((await heard).map(({ revision }) => revision)).toEqual([2n, 3n, 4n])
    expect(await readUntil(4n, caughtUp)).toEqual([])
  })

  test('twelve watchers that come at different times see the same history while writers are busy', async () => {
    const writers = Array.from({ length: 60 }, (_, index) => createModel(registry, `m${index}`))
    const watchers = Array.from({ length: 12 }, async (_, index) => {
      await writers[index]
      return await readUntil(0n, ({ change }) => change?.revision === 60n)
    })
    const [first, ...others] = await Promise.all(watchers)
    expect(first?.map(({ revision }) => Number(revision))).toEqual(Array.from({ length: 60 }, (_, index) => index + 1))
    for (const other of others) expect(other).toEqual(first)
    await Promise.all(writers)
  })

  test('a silent watch gives signs of life with the newest revision', async () => {
    await createModel(registry)
    let signs = 0
    await readUntil(1n, ({ change, latestRevision }) => {
      expect(latestRevision).toBe(1n)
      signs += change === undefined ? 1 : 0
      return signs === 3
    })
  })

  test('a revision that does not exist yet is OUT_OF_RANGE', async () => {
    await createModel(registry)
    expect(await failureOf(readUntil(2n, () => true))).toMatchObject({ code: Code.OUT_OF_RANGE })
  })

  test('when the service stops a watch ends with UNAVAILABLE, so that the watcher comes back', async () => {
    const watching = failureOf(readUntil(0n, () => false))
    await createModel(registry)
    await registry.restart()
    expect(await watching).toMatchObject({ code: Code.UNAVAILABLE })
  })
})

describe('outbox', () => {
  let directory: string
  let ledger: Ledger

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'slipway-outbox-'))
    const database = openSqlite<Schema>({ path: join(directory, 'registry.db') })
    await migrate(database, migrations)
    ledger = new Ledger({ database, nowMicros: () => 1_000_000n })
  })

  afterEach(async () => {
    await ledger.database.destroy()
    rmSync(directory, { recursive: true, force: true })
  })

  async function writeModels(from: number, to: number): Promise<void> {
    const models = new Models({ ledger, checkGate: async () => {} })
    for (let index = from; index < to; index++) {
      const name = `models/m${index % 3}-${index}`
      await models.create(create(ModelSchema, { name }), '', 'tester')
    }
  }

  test('changes reach the bus in order, those from before the start too, and each keeps its revision', async () => {
    const bus = openEmbeddedBus({ path: join(directory, 'events.db') })
    await writeModels(0, 5)
    const outbox = startOutbox({ ledger, bus, batchSize: 2, maxWaitMs: 20 })
    await writeModels(5, 9)
    const heard: number[] = []
    const subscription = await consume(bus, topics.registry, {
      group: 'test',
      handle: async (events) => {
        for (const { message } of events) heard.push(Number(message.change?.revision))
      },
    })
    await expect.poll(() => new Set(heard).size, { timeout: 10_000 }).toBe(9)
    await subscription.stop()
    await outbox.stop()
    await bus.close()
    expect(heard.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  test('while the bus refuses nothing is lost, and what it took without an answer comes again in order', async () => {
    const taken: bigint[] = []
    let calls = 0
    const bus: Pick<EventBus, 'publish'> = {
      publish: async (records: readonly EventRecord[]) => {
        calls += 1
        if (calls % 3 === 1) throw new Error('the bus is away')
        for (const record of records) taken.push(topicRevision(record))
        if (calls % 3 === 2) throw new Error('the answer was lost')
      },
    }
    await writeModels(0, 6)
    const outbox = startOutbox({ ledger, bus: bus as EventBus, batchSize: 4, maxWaitMs: 5 })
    await expect.poll(() => taken.at(-1)).toBe(6n)
    await expect
      .poll(async () => await ledger.database.selectFrom('cursors').select('revision').execute())
      .toEqual([{ revision: 6 }])
    await outbox.stop()
    const firsts = taken.filter((revision, index) => taken.indexOf(revision) === index)
    expect(firsts).toEqual([1n, 2n, 3n, 4n, 5n, 6n])
  })
})

function topicRevision(record: EventRecord): bigint {
  return fromBinary(topics.registry.schema, record.value).change?.revision ?? 0n
}
