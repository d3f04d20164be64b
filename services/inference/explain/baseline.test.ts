import { create, toBinary } from '@bufbuild/protobuf'
import { BACKGROUND_FILE } from '@slipway/models'
import { Baseline } from '@slipway/proto/slipway/inference/v1/explain_service'
import { BackgroundRowsSchema } from '@slipway/proto/slipway/registry/v1/background'
import { type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import { expect, test } from 'vitest'
import { type ReferenceSource, References } from './baseline.ts'
import { functionModel, vectorSignature } from './functions.fixture.ts'

const served = (number = '1') => functionModel(vectorSignature(2), () => 0, number)

function fileOf(width: number): Uint8Array {
  const raw = new Uint8Array(new Float32Array(3 * width).buffer)
  const inputs = [{ name: 'features', datatype: 'FP32', shape: [3n, BigInt(width)], raw }]
  return toBinary(BackgroundRowsSchema, create(BackgroundRowsSchema, { inputs }))
}

/** A source that counts what it is asked. */
function source(file: Uint8Array | undefined, version?: Partial<ModelVersion>, sizeBytes = file?.length ?? 0) {
  const asked = { described: 0, read: 0 }
  const references: ReferenceSource & { failure: Failure | undefined } = {
    failure: undefined,
    async describe(name) {
      asked.described++
      if (references.failure !== undefined) throw references.failure
      const digest = `sha256:${(name.split('/').at(-1) ?? '').padStart(64, '0')}`
      return version && create(ModelVersionSchema, { digest, ...version } as never)
    },
    async files() {
      return {
        files: file === undefined ? [] : [{ path: BACKGROUND_FILE, sizeBytes }],
        async read() {
          asked.read++
          return file ?? new Uint8Array()
        },
      }
    },
  }
  return { references, asked }
}

test('what a version carries is fetched once, when somebody asks', async () => {
  const { references, asked } = source(fileOf(2))
  const known = new References(references)
  const reference = await known.get(served())
  expect(asked.read).toBe(0)
  const [first, second] = await Promise.all([reference.background(), (await known.get(served())).background()])
  expect(first).toBe(second)
  expect([first.kind, first.table.rows]).toEqual([Baseline.ROWS, 3])
  expect(asked).toEqual({ described: 1, read: 1 })
})

test('so many versions are known at once; the one that was asked for longest ago goes first', async () => {
  const { references, asked } = source(undefined)
  const known = new References(references)
  for (let number = 1; number <= 33; number++) await known.get(served(String(number)))
  await known.get(served('33'))
  expect(asked.described).toBe(33)
  await known.get(served('1'))
  expect(asked.described).toBe(34)
})

test('a registry that is away is asked again by the next', async () => {
  const { references } = source(fileOf(2))
  const known = new References(references)
  references.failure = new Failure(Code.UNAVAILABLE, 'UNAVAILABLE', 'the registry is away')
  await expect(known.get(served())).rejects.toMatchObject({ code: Code.UNAVAILABLE })
  references.failure = undefined
  expect((await (await known.get(served())).background()).table.rows).toBe(3)
})

test('a version that the registry knows by another digest is not explained', async () => {
  const { references } = source(fileOf(2), { digest: `sha256:${'f'.repeat(64)}` })
  await expect(new References(references).get(served())).rejects.toMatchObject({ reason: 'DIGEST_MISMATCH' })
})

test.each([
  ['no message', Buffer.from('no message'), undefined],
  ['of another width', fileOf(3), undefined],
  ['empty', new Uint8Array(), undefined],
  ['too large', fileOf(2), 17 * 1024 * 1024],
])('a file that is %s is refused with its name', async (_, file, sizeBytes) => {
  const { references } = source(file, undefined, sizeBytes)
  const reference = await new References(references).get(served())
  const failure = await reference.background().catch((error: unknown) => Failure.from(error))
  expect(failure).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'BAD_BASELINE' })
  expect((failure as Failure).message).toContain(BACKGROUND_FILE)
})
