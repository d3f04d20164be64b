import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openEmbeddedBus, publishTo, topics } from '@slipway/events'
import { DriftService } from '@slipway/proto/slipway/drift/v1/drift_service'
import { createClient } from '@slipway/rpc'
import { createRandom } from '@slipway/stats'
import { openSqlite } from '@slipway/storage'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type FakeRegistry, fakeRegistry } from './fake-registry.fixture.ts'
import type { Schema } from './schema.ts'
import { liveStartMicros, logged, syntheticRows, syntheticVersion } from './synthetic.fixture.ts'

const digest = `sha256:${'c'.repeat(64)}`
const endpoint = 'endpoints/flight-delay'
const name = 'monitors/flight-delay'
const rows = syntheticRows('kill', liveStartMicros, 2, 500).map((row) => ({
  ...row,
  distance: (row.distance ?? 0) * 1.6,
}))

let registry: FakeRegistry
const directories: string[] = []

beforeAll(async () => {
  registry = await fakeRegistry([syntheticVersion(digest)])
})

afterAll(async () => {
  await registry.stop()
  for (const directory of directories) await rm(directory, { recursive: true, force: true })
})

interface Running {
  readonly process: ChildProcess
  readonly address: string
}

/** Starts the monitor as a process of its own and waits until it says where it answers. */
async function startProcess(directory: string): Promise<Running> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('main.ts', import.meta.url))], {
    env: {
      PATH: process.env.PATH,
      SLIPWAY_LISTEN: '127.0.0.1:0',
      SLIPWAY_DATA_DIR: directory,
      SLIPWAY_REGISTRY_ADDRESS: registry.address,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  return await new Promise((resolve, reject) => {
    let said = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      const address = /"address":"([^"]+)"/.exec(said)?.[1]
      if (address !== undefined) resolve({ process: child, address })
    })
    child.once('exit', (code) => reject(new Error(`the monitor ended with ${code}: ${said}`)))
  })
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

async function countedBy(address: string): Promise<number> {
  const client = createClient(DriftService, { address })
  const report = await client.getReport({ name })
  client.close()
  return Number(report.predictions)
}

async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-drift-kill-'))
  directories.push(directory)
  const bus = openEmbeddedBus({ path: join(directory, 'events.db') })
  const first = await startProcess(directory)
  const client = createClient(DriftService, { address: first.address })
  await client.createMonitor({ monitor: { name, endpoint } })
  client.close()
  await kill(first.process)
  const messages = rows.map((row, id) => logged(row, `p${id}`, digest, endpoint))
  for (let start = 0; start < messages.length; start += 250) {
    await publishTo(bus, topics.predictions, messages.slice(start, start + 250))
    await publishTo(
      bus,
      topics.feedback,
      messages.slice(start, start + 250).map(({ predictionId }) => ({
        predictionId,
        endpoint,
        feedbackId: predictionId,
        eventTime: { seconds: liveStartMicros / 1_000_000n },
        outcome: { case: 'label' as const, value: 1 },
      })),
    )
  }
  await bus.close()
  return directory
}

/** Kills the monitor after each pause, and then lets it finish; gives what it has kept. */
async function keptAfter(directory: string, pausesMs: readonly number[]) {
  for (const pauseMs of pausesMs) {
    const running = await startProcess(directory)
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    await kill(running.process)
  }
  const last = await startProcess(directory)
  await expect.poll(() => countedBy(last.address), { timeout: 90_000 }).toBe(rows.length)
  const database = openSqlite<Schema>({ path: join(directory, 'drift-monitor', 'drift.db') })
  const joined = async () => (await database.selectFrom('monitors').selectAll().executeTakeFirstOrThrow()).labels_joined
  await expect.poll(joined, { timeout: 90_000 }).toBe(rows.length)
  const panes = await database.selectFrom('panes').selectAll().orderBy('hour').execute()
  const incidents = await database.selectFrom('incidents').select(['name', 'open']).execute()
  const monitor = await database
    .selectFrom('monitors')
    .select(['predictions', 'too_late', 'labels_received', 'labels_joined', 'last_look_hour'])
    .executeTakeFirstOrThrow()
  await database.destroy()
  await kill(last.process)
  return { panes, incidents, monitor }
}

test('killed at any moment and started again, it keeps the same counts, labels and incident as one never killed', async () => {
  const [unharmed, killed] = [await newDirectory(), await newDirectory()]
  const wanted = await keptAfter(unharmed, [])
  const random = createRandom('kill')
  const found = await keptAfter(
    killed,
    Array.from({ length: 4 }, () => random.integer(150)),
  )
  expect(wanted.incidents).toHaveLength(1)
  expect(found).toEqual(wanted)
}, 180_000)
