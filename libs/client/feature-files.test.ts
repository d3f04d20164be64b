import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { type Client, Code, createClient, createServer, Failure, implement } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { downloadDataset, uploadSpine } from './feature-files.ts'

const content = randomBytes(1_000_000)
const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
const state = { received: undefined as Buffer | undefined, breaks: 0 }

/** Breaks off once, in the middle. */
function breakOff(bytes: number): void {
  if (state.breaks === 0 || bytes < 400_000) return
  state.breaks -= 1
  throw new Failure(Code.UNAVAILABLE, 'BROKEN_OFF', 'the line broke')
}

const server = createServer({
  listen: { host: '127.0.0.1', port: 0 },
  implementations: [
    implement(FeatureStoreService, {
      getSpineUpload: async () => {
        if (state.received === undefined) throw new Failure(Code.NOT_FOUND, 'UPLOAD_NOT_FOUND', 'no such upload')
        return { receivedBytes: BigInt(state.received.length) }
      },
      uploadSpine: async (requests) => {
        let found = ''
        for await (const { offset, chunk, digest: wanted } of requests) {
          expect(Number(offset)).toBe(state.received?.length ?? 0)
          state.received = Buffer.concat([state.received ?? Buffer.alloc(0), chunk])
          breakOff(state.received.length)
          found = wanted
        }
        return { receivedBytes: BigInt(state.received?.length ?? 0), digest: found }
      },
      downloadDataset: async function* ({ offset }) {
        for (let at = Number(offset); at < content.length; at += 100_000) {
          breakOff(at)
          yield { offset: BigInt(at), chunk: content.subarray(at, at + 100_000), sizeBytes: BigInt(content.length) }
        }
      },
    }),
  ],
})

let features: Client<typeof FeatureStoreService>
beforeAll(async () => {
  features = createClient(FeatureStoreService, { address: (await server.start()).address })
})
afterAll(async () => {
  features.close()
  await server.drain({ graceMs: 100 })
})

test('a spine whose upload breaks off goes on where it stopped', async () => {
  state.breaks = 1
  expect(await uploadSpine(features, content)).toBe(digest)
  expect(state.received?.equals(content)).toBe(true)
})

test('a dataset is downloaded file by file, through a broken line, and checked', async () => {
  state.breaks = 1
  const directory = await mkdtemp(join(tmpdir(), 'slipway-dataset-'))
  const dataset = { name: `datasets/${'a'.repeat(64)}`, files: [{ path: 'part/0.parquet', digest }] }
  const paths = await downloadDataset(features, dataset as never, directory)
  expect(paths).toEqual([join(directory, 'part', '0.parquet')])
  expect((await readFile(paths[0] ?? '')).equals(content)).toBe(true)
})

test('a dataset that names a file outside the folder is refused', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-dataset-'))
  const dataset = { name: `datasets/${'a'.repeat(64)}`, files: [{ path: '../escaped', digest }] }
  await expect(downloadDataset(features, dataset as never, directory)).rejects.toMatchObject({
    reason: 'PATH_LEAVES_FOLDER',
  })
  expect(await readdir(directory)).toEqual([])
})
