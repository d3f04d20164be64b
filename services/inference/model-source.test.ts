import { Code } from '@slipway/rpc'
import { expect, test } from 'vitest'
import { openModel } from './model-source.ts'

test('a pipeline is not opened as a model, and the refusal says what it is', async () => {
  const files = [{ path: 'pipeline.json', sizeBytes: 2, digest: 'sha256:1' }]
  const version = { name: 'models/p/versions/1', model: 'p', number: '1', digest: 'sha256:2', files }
  const opened = openModel({ ...version, read: async () => new Uint8Array(), layOut: async () => '' })
  await expect(opened).rejects.toMatchObject({
    code: Code.FAILED_PRECONDITION,
    reason: 'LOAD_FAILED',
    message: expect.stringContaining('it is a pipeline'),
  })
})
