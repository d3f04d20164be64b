import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { open, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { blobStoreContract } from './blobs.contract.ts'
import type { Digest } from './blobs.ts'
import { openFileBlobs } from './file-blobs.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-blobs-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

blobStoreContract(() => {
  const own = mkdtempSync(join(directory, 'store-'))
  const pathOf = (digest: Digest) => join(own, 'sha256', digest.slice(7, 9), digest.slice(9))
  return {
    open: () => openFileBlobs({ directory: own }),
    flipByte: async (digest, offset) => {
      const file = await open(pathOf(digest), 'r+')
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, offset)
      await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, offset)
      await file.close()
    },
    truncate: async (digest, sizeBytes) => await truncate(pathOf(digest), sizeBytes),
  }
})

test('an upload whose process is killed with -9 keeps every acknowledged byte and is finished by another', async () => {
  const pieceBytes = 100_000
  const totalBytes = 40 * pieceBytes
  const content = Buffer.alloc(totalBytes)
  for (let index = 0; index < totalBytes; index++) content[index] = (index * 31) % 251
  const script = `
    import { openFileBlobs } from ${JSON.stringify(new URL('./file-blobs.ts', import.meta.url).href)}
    const upload = await openFileBlobs({ directory: ${JSON.stringify(directory)} }).stage('killed')
    const content = Buffer.alloc(${totalBytes})
    for (let index = 0; index < ${totalBytes}; index++) content[index] = (index * 31) % 251
    for (let offset = upload.receivedBytes; offset < ${totalBytes}; offset += ${pieceBytes}) {
      await upload.append(offset, content.subarray(offset, offset + ${pieceBytes}))
      process.stdout.write(upload.receivedBytes + '\\n')
    }`
  let acknowledged = 0
  for (const killAfter of [1, 7, 3]) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let lines = 0
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Math.max(acknowledged, Number(line))
      lines += 1
      if (lines === killAfter) child.kill('SIGKILL')
    }
  }
  const store = openFileBlobs({ directory })
  const upload = await store.stage('killed')
  expect(acknowledged).toBeGreaterThan(0)
  expect(upload.receivedBytes).toBeGreaterThanOrEqual(acknowledged)
  await upload.append(upload.receivedBytes, content.subarray(upload.receivedBytes))
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
  expect(await upload.commit(digest)).toEqual({ digest, sizeBytes: totalBytes })
})
