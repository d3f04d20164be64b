import { createHash } from 'node:crypto'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Code } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Artifact, ArtifactCache, type FetchArtifact } from './artifact-cache.ts'

const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const content = (fill: number, size = 1000) => Buffer.alloc(size, fill)
const artifact = (bytes: Uint8Array): Artifact => ({ digest: digestOf(bytes), sizeBytes: bytes.length })

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-cache-'))
})
afterEach(() => rm(directory, { recursive: true }))

/** A source of contents that remembers from where it was asked, and breaks off after so many bytes. */
function source(...contents: Buffer[]) {
  const asked: number[] = []
  const state = { breakAfter: Number.POSITIVE_INFINITY, asked }
  const fetch: FetchArtifact = async function* (digest, offset) {
    asked.push(offset)
    const bytes = contents.find((candidate) => digestOf(candidate) === digest)
    if (bytes === undefined) throw new Error('unknown')
    let sent = 0
    for (let at = offset; at < bytes.length; at += 100) {
      if (sent >= state.breakAfter) throw new Error('the connection broke')
      yield bytes.subarray(at, at + 100)
      sent += 100
    }
  }
  return { ...state, state, fetch }
}

const open = (fetch: FetchArtifact, maxBytes = 1e9, held = new Set<string>()) =>
  new ArtifactCache({ directory, maxBytes, fetch, held: () => held })

describe('the artifact cache', () => {
  test('fetches a file once, for any number of readers', async () => {
    const bytes = content(1)
    const { fetch, asked } = source(bytes)
    const cache = open(fetch)
    const reads = await Promise.all(Array.from({ length: 5 }, () => cache.read(artifact(bytes))))
    expect(reads.every((read) => read.equals(bytes))).toBe(true)
    await cache.read(artifact(bytes))
    expect(asked).toEqual([0])
  })

  test('goes on where a fetch broke off, also in another process', async () => {
    const bytes = content(2)
    const { fetch, asked, state } = source(bytes)
    state.breakAfter = 300
    await expect(open(fetch).read(artifact(bytes))).rejects.toThrow('the connection broke')
    state.breakAfter = Number.POSITIVE_INFINITY
    expect((await open(fetch).read(artifact(bytes))).equals(bytes)).toBe(true)
    expect(asked).toEqual([0, 300])
  })

  test('refuses content with another digest and keeps nothing of it', async () => {
    const bytes = content(3)
    const cache = open(async function* () {
      yield content(4)
    })
    await expect(cache.read(artifact(bytes))).rejects.toMatchObject({ code: Code.DATA_LOSS, reason: 'DIGEST_MISMATCH' })
    expect(await readdir(directory)).toEqual([])
  })

  test('refuses content that is cut short, and says that it may be tried again', async () => {
    const bytes = content(5)
    const cache = open(async function* () {
      yield bytes.subarray(0, 10)
    })
    await expect(cache.read(artifact(bytes))).rejects.toMatchObject({ code: Code.UNAVAILABLE })
  })

  test('notices a file that changed on disk, and fetches it anew', async () => {
    const bytes = content(6)
    const { fetch, asked } = source(bytes)
    const cache = open(fetch)
    const path = await cache.ensure(artifact(bytes))
    await writeFile(path, content(7))
    expect((await cache.read(artifact(bytes))).equals(bytes)).toBe(true)
    expect(asked).toEqual([0, 0])
  })

  test('drops what was not used for longest when it is over its bound, but nothing that is held', async () => {
    const files = [1, 2, 3, 4].map((fill) => content(fill))
    const [first = content(0), second = content(0), third = content(0), fourth = content(0)] = files
    const cache = open(source(...files).fetch, 2500, new Set([digestOf(first)]))
    for (const bytes of [first, second, third, fourth]) {
      await cache.ensure(artifact(bytes))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const kept = (await readdir(directory)).map((name) => `sha256:${name}`)
    expect(kept.sort()).toEqual([digestOf(first), digestOf(fourth)].sort())
  })

  test('a digest that is none reaches no path', async () => {
    const cache = open(source().fetch)
    await expect(cache.ensure({ digest: 'sha256:../../x', sizeBytes: 1 })).rejects.toMatchObject({
      reason: 'BAD_DIGEST',
    })
  })
})
