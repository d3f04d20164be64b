/** Kill -9 of the service while it writes, makes parts and training sets: nothing acknowledged is lost or doubled. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { timestampFromMicros } from '@slipway/resources'
import { type Client, createClient } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  at,
  createTrainingSet,
  defineTraffic,
  query,
  readDataset,
  type Serving,
  storeEnvironment,
  trafficRow,
  uploadSpineOf,
  value,
} from './store.fixture.ts'

const rounds = 4
const featureService = 'featureServices/late'

interface Spawned extends Serving {
  readonly child: ChildProcess
}

let directory: string
const children: ChildProcess[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-kill-'))
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
})

async function spawnStore(): Promise<Spawned> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./main.ts', import.meta.url))], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { ...process.env, ...storeEnvironment(directory), SLIPWAY_LOG_LEVEL: 'info' },
  })
  children.push(child)
  for await (const line of createInterface({ input: child.stderr })) {
    const address = /"address":"([^"]+)"/.exec(line)?.[1]
    if (address === undefined) continue
    child.stderr.resume()
    return { child, client: createClient(FeatureStoreService, { address }) }
  }
  throw new Error('the feature store did not start')
}

async function kill({ child, client }: Spawned): Promise<void> {
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

const entity = (number: number) => `E${number}`

async function onlineValues(client: Client<typeof FeatureStoreService>, count: number): Promise<bigint[]> {
  const values: bigint[] = []
  for (let first = 0; first < count; first += 500) {
    const { vectors } = await client.getOnlineFeatures({
      selection: { case: 'featureService', value: featureService },
      entityRows: Array.from({ length: Math.min(500, count - first) }, (_, index) => ({
        keys: { origin: value.text(entity(first + index)) },
      })),
      asOf: timestampFromMicros(at(100)),
    })
    values.push(...vectors.map(({ int64s }) => int64s[0] ?? -1n))
  }
  return values
}

test('kill -9 during writes, flushes and training sets loses nothing acknowledged, doubles nothing, leaves no file', async () => {
  let store = await spawnStore()
  await defineTraffic(store)
  let acknowledged = 0
  const writeBatch = async () => {
    const rows = Array.from({ length: 20 }, (_, index) =>
      trafficRow(entity(acknowledged + index), 1, { flights: BigInt(acknowledged + index) }),
    )
    await store.client.writeFeatures({ rows })
    acknowledged += rows.length
  }
  for (let round = 0; round < rounds; round++) {
    await writeBatch()
    const spineDigest = await uploadSpineOf(store, [[entity(0), 100]])
    // Some rounds end among the writes, the others somewhere in the making of a part or of a training set.
    let batchesLeft = round % 2 === 0 ? 1 + Math.floor(Math.random() * 20) : Number.POSITIVE_INFINITY
    await Promise.all([
      untilDead(async () => {
        await writeBatch()
        batchesLeft -= 1
        if (batchesLeft === 0) store.child.kill('SIGKILL')
      }),
      untilDead(async () => {
        for await (const _ of store.client.createTrainingSet({ spineDigest, featureService })) {
          if (round % 2 === 0 || Math.random() < 0.8) continue
          await delay(Math.random() * 300)
          store.child.kill('SIGKILL')
        }
      }),
    ])
    await kill(store)
    store = await spawnStore()
    const expected = Array.from({ length: acknowledged }, (_, number) => BigInt(number))
    expect(await onlineValues(store.client, acknowledged)).toEqual(expected)
    // A batch that came again is known, so what a caller repeats is not doubled.
    const rows = [trafficRow(entity(0), 1, { flights: 0n })]
    expect(await store.client.writeFeatures({ rows })).toMatchObject({ duplicateCount: 1 })
    const spine = await uploadSpineOf(
      store,
      expected.map((number): [string, number] => [entity(Number(number)), 100]),
    )
    const dataset = await createTrainingSet(store, { spineDigest: spine, featureService })
    const found = await readDataset(store, dataset)
    expect(found.map(({ flights }) => flights)).toEqual(expected)
    const leftovers = readdirSync(join(directory, 'feature-store', 'work')).filter((name) =>
      name.startsWith('dataset-'),
    )
    expect(leftovers).toEqual([])
  }
  const files = partFiles()
  expect(files.filter((name) => !name.endsWith('.parquet'))).toEqual([])
  // Every accepted row stands in one part, once: revisions are without gap and without repetition.
  const revisions = await revisionsInParts(files)
  expect(revisions).toEqual(Array.from(revisions, (_, index) => index + 1))
  await kill(store)
}, 120_000)

/** Files in the folder of the parts. */
function partFiles(): string[] {
  const folder = join(directory, 'feature-store', 'parts')
  return readdirSync(folder).map((name) => join(folder, name))
}

async function revisionsInParts(files: readonly string[]): Promise<number[]> {
  const list = files.map((file) => `'${file}'`).join(', ')
  const rows = await query(`select revision::integer as revision from read_parquet([${list}]) order by 1`)
  return rows.map(({ revision }) => Number(revision))
}
