import { Code } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createModel, createPassedVersion, startTestRegistry, type TestRegistry } from './test-registry.ts'

let registry: TestRegistry
beforeEach(async () => {
  registry = await startTestRegistry()
  await createModel(registry)
})
afterEach(async () => await registry.stop())

const setting = { executors: 1, intraOpThreads: 2, maxBatchRows: 16 }
const profile = {
  machine: '2 × something',
  cores: 2,
  points: [{ setting, concurrency: 8, rowsPerSecond: 1000, p99Ms: 3, pareto: true }],
  recommended: setting,
}

test('a profile is stored on its version, replaces the one before, survives a restart, and leaves the digest as it was', async () => {
  const { name, digest } = await createPassedVersion(registry)
  await registry.client.recordServingProfile({ name, digest, profile })
  const again = { ...profile, machine: 'another' }
  const stored = await registry.client.recordServingProfile({ name, digest, profile: again })
  expect(stored.digest).toBe(digest)
  await registry.restart()
  const version = await registry.client.getVersion({ name })
  expect(version.servingProfile).toMatchObject(again)
  expect(version.digest).toBe(digest)
  const { versions } = await registry.client.listVersions({ parent: name.split('/').slice(0, 2).join('/') })
  expect(versions[0]?.servingProfile?.recommended).toMatchObject(setting)
})

test('a profile of something else is refused and changes nothing', async () => {
  const { name } = await createPassedVersion(registry)
  const digest = `sha256:${'0'.repeat(64)}`
  const refused = registry.client.recordServingProfile({ name, digest, profile })
  await expect(refused).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'DIGEST_MISMATCH' })
  expect((await registry.client.getVersion({ name })).servingProfile).toBeUndefined()
  const unknown = registry.client.recordServingProfile({ name: 'models/nobody/versions/1', digest, profile })
  await expect(unknown).rejects.toMatchObject({ code: Code.NOT_FOUND })
})
