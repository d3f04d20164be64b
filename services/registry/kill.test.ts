import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { consume, openEmbeddedBus, topics } from '@slipway/events'
import { bytesSource, registerVersion, uploadFile } from '@slipway/models'
import type { Alias, ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { type RegistryChange, RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, createClient } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type FakeInference, startFakeInference } from './fake-inference.ts'
import { bindings, goldenSet, model } from './test-registry.ts'

const alias = 'models/flight-delay/aliases/champion'
const rounds = 5

interface Registry {
  readonly process: ChildProcess
  readonly client: Client<typeof RegistryService>
}

let directory: string
let inference: FakeInference
const children: ChildProcess[] = []

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-kill-'))
  inference = await startFakeInference()
})

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await inference.stop()
  rmSync(directory, { recursive: true, force: true })
})

async function spawnRegistry(): Promise<Registry> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./main.ts', import.meta.url))], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: {
      ...process.env,
      SLIPWAY_LISTEN: '127.0.0.1:0',
      SLIPWAY_DATA_DIR: directory,
      SLIPWAY_INFERENCE_ADDRESS: inference.address,
      SLIPWAY_LOG_LEVEL: 'info',
    },
  })
  children.push(child)
  for await (const line of createInterface({ input: child.stderr })) {
    const address = /"address":"([^"]+)"/.exec(line)?.[1]
    if (address !== undefined) return { process: child, client: createClient(RegistryService, { address }) }
  }
  throw new Error('the registry did not start')
}

async function kill({ process: child, client }: Registry): Promise<void> {
  child.kill('SIGKILL')
  if (child.signalCode === null && child.exitCode === null) await once(child, 'exit')
  client.close()
}

/** Repeats an action until it fails, as everything does once the process is gone. */
async function untilDead(action: () => Promise<void>): Promise<void> {
  try {
    for (;;) await action()
  } catch {
    // What was not acknowledged may or may not have happened; what was is checked.
  }
}

async function readAll(client: Client<typeof RegistryService>): Promise<RegistryChange[]> {
  const changes: RegistryChange[] = []
  for await (const { change } of client.watch({})) {
    if (change === undefined) return changes
    changes.push(change)
  }
  return changes
}

async function historyOf(client: Client<typeof RegistryService>): Promise<Alias[]> {
  return (await client.listAliasHistory({ name: alias, pageSize: 1000 })).moves
}

test('kill -9 in the middle of uploads, registrations and alias moves loses nothing acknowledged and leaves no gap', async () => {
  const versions: ModelVersion[] = []
  const moves: Alias[] = []
  const content = randomBytes(4_000_000)
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
  const uploadId = randomUUID()
  let uploadedBytes = 0
  let seen: RegistryChange[] = []
  let registry = await spawnRegistry()
  const golden = await uploadFile(registry.client, bytesSource(goldenSet()))
  await registry.client.createModel({
    model: { name: 'models/flight-delay', gate: { goldenSetDigest: golden.digest } },
  })
  for (let round = 0; round < rounds; round++) {
    const { client } = registry
    let acknowledged = 0
    const acknowledge = () => {
      acknowledged += 1
      // A different point of each round's work.
      if (acknowledged === 5 + 7 * round) registry.process.kill('SIGKILL')
    }
    await Promise.all([
      untilDead(async () => {
        const version = { parent: 'models/flight-delay', files: { 'model.onnx': model() }, ...bindings }
        versions.push(await registerVersion(client, version, { patienceMs: 0 }))
        acknowledge()
      }),
      untilDead(async () => {
        const target = versions.at(-1)?.name
        if (target === undefined) return await new Promise((resolve) => setTimeout(resolve, 5))
        for await (const _ of client.runGate({ name: target }));
        const current = await client.getAlias({ name: alias }).catch((error: { reason?: string }) => {
          if (error.reason !== 'ALIAS_NOT_FOUND') throw error
          return undefined
        })
        const moved = await client.setAlias({ name: alias, version: target, etag: current?.etag ?? '' })
        moves.push(moved)
        acknowledge()
      }),
      untilDead(async () => {
        const { receivedBytes } = await client.getUpload({ uploadId })
        const offset = Number(receivedBytes)
        const chunk = content.subarray(offset, Math.min(offset + 50_000, content.length - 1))
        async function* pieces() {
          yield { uploadId, offset: receivedBytes, chunk }
        }
        const { upload } = await client.uploadFile(pieces())
        uploadedBytes = Number(upload?.receivedBytes)
      }),
    ])
    await kill(registry)
    registry = await spawnRegistry()
    for (const version of versions) {
      const found = await registry.client.getVersion({ name: version.name })
      expect(found.digest).toBe(version.digest)
    }
    const history = await historyOf(registry.client)
    const generations = history.map(({ generation }) => Number(generation))
    expect(generations).toEqual(Array.from(generations, (_, index) => generations.length - index))
    for (const moved of moves) expect(history).toContainEqual(moved)
    expect(Number((await registry.client.getUpload({ uploadId })).receivedBytes)).toBeGreaterThanOrEqual(uploadedBytes)
    const changes = await readAll(registry.client)
    expect(changes.map(({ revision }) => Number(revision))).toEqual(Array.from(changes, (_, index) => index + 1))
    expect(changes.slice(0, seen.length)).toEqual(seen)
    seen = changes
  }
  expect(versions.length).toBeGreaterThan(rounds)
  expect(moves.length).toBeGreaterThan(rounds)
  expect(uploadedBytes).toBeGreaterThan(0)
  expect(await uploadFile(registry.client, bytesSource(content), { uploadId })).toMatchObject({ digest })
  expect(await revisionsOnTheBus(seen.length)).toEqual(seen.map(({ revision }) => Number(revision)))
  await kill(registry)
}, 120_000)

/** Revisions of registry events in the order in which each came first. */
async function revisionsOnTheBus(count: number): Promise<number[]> {
  const bus = openEmbeddedBus({ path: join(directory, 'events.db') })
  const revisions = new Set<number>()
  const subscription = await consume(bus, topics.registry, {
    group: randomUUID(),
    handle: async (events) => {
      for (const { message } of events) revisions.add(Number(message.change?.revision))
    },
  })
  await expect.poll(() => revisions.size, { timeout: 20_000 }).toBe(count)
  await subscription.stop()
  await bus.close()
  return [...revisions]
}
