import { randomUUID } from 'node:crypto'
import { bytesSource, downloadBytes, uploadFile, versionDigest } from '@slipway/models'
import { GateState } from '@slipway/proto/slipway/registry/v1/model'
import { Code } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  bindings,
  createModel,
  createPassedVersion,
  createVersion,
  failureOf,
  model,
  runGate,
  startTestRegistry,
  type TestRegistry,
} from './test-registry.ts'

let registry: TestRegistry

beforeEach(async () => {
  registry = await startTestRegistry()
})

afterEach(async () => {
  await registry.stop()
})

describe('models', () => {
  test('a model is created once, read and listed by name, page by page', async () => {
    for (const id of ['b', 'a', 'c']) await createModel(registry, id)
    expect(await failureOf(createModel(registry, 'a'))).toMatchObject({
      code: Code.ALREADY_EXISTS,
      reason: 'MODEL_EXISTS',
    })
    const first = await registry.client.listModels({ pageSize: 2 })
    expect(first.models.map(({ name }) => name)).toEqual(['models/a', 'models/b'])
    const second = await registry.client.listModels({ pageSize: 2, pageToken: first.nextPageToken })
    expect(second.models.map(({ name }) => name)).toEqual(['models/c'])
    expect(second.nextPageToken).toBe('')
    expect(await registry.client.getModel({ name: 'models/b' })).toMatchObject({ name: 'models/b', latestVersion: 0n })
    expect(await failureOf(registry.client.getModel({ name: 'models/zz' }))).toMatchObject({ code: Code.NOT_FOUND })
    const foreign = await failureOf(
      registry.client.listVersions({ parent: 'models/a', pageToken: first.nextPageToken }),
    )
    expect(foreign.violations).toMatchObject([{ field: 'page_token' }])
  })

  test('a repeated request to create a model returns the model that the first one made', async () => {
    const request = { model: { name: 'models/a', description: 'x' }, requestId: randomUUID() }
    const created = await registry.client.createModel(request)
    expect(await registry.client.createModel(request)).toEqual(created)
    const other = registry.client.createModel({ ...request, requestId: randomUUID() })
    expect(await failureOf(other)).toMatchObject({ code: Code.ALREADY_EXISTS })
  })

  test('an update changes the fields of its mask only, and a stale etag is ABORTED and writes nothing', async () => {
    const created = await createModel(registry, 'a')
    const update = { name: 'models/a', description: 'new', labels: { team: 'x' }, etag: created.etag }
    const updated = await registry.client.updateModel({ model: update, updateMask: { paths: ['description'] } })
    expect(updated).toMatchObject({
      description: 'new',
      labels: {},
      gate: created.gate,
      createTime: created.createTime,
    })
    expect(updated.etag).not.toBe(created.etag)
    const stale = await failureOf(registry.client.updateModel({ model: { ...update, description: 'newer' } }))
    expect(stale).toMatchObject({ code: Code.ABORTED, reason: 'STALE_ETAG', metadata: { currentEtag: updated.etag } })
    expect(await registry.client.getModel({ name: 'models/a' })).toEqual(updated)
    const wrong = await failureOf(registry.client.updateModel({ model: update, updateMask: { paths: ['name'] } }))
    expect(wrong.violations).toMatchObject([{ field: 'update_mask' }])
  })

  test('a gate whose golden set is not uploaded, not one, or without the labels its metrics need is refused', async () => {
    const { digest: notOne } = await uploadFile(registry.client, bytesSource(model()))
    const absent = `sha256:${'0'.repeat(64)}`
    const refused = async (gate: object, field: string) => {
      const failure = await failureOf(createModel(registry, 'a', gate))
      expect(failure).toMatchObject({ code: Code.INVALID_ARGUMENT })
      expect(failure.violations.map((violation) => violation.field)).toContain(field)
    }
    await refused({ goldenSetDigest: absent }, 'model.gate.golden_set_digest')
    await refused({ goldenSetDigest: notOne }, 'model.gate.golden_set_digest')
    await refused({ championAlias: 'latest' }, 'model.gate.champion_alias')
    await refused({ metrics: [{ metric: 1 }] }, 'model.gate.metrics[0]')
  })
})

describe('versions', () => {
  test('a version has the signature of its graph, its declared bindings and a digest that anybody can recompute', async () => {
    await createModel(registry)
    const version = await createVersion(registry)
    expect(version).toMatchObject({
      name: 'models/flight-delay/versions/1',
      gateState: GateState.PENDING,
      signature: {
        inputs: [{ name: 'features', datatype: 'FP32', shape: [-1n, 2n] }],
        outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1n, 1n] }],
      },
      files: [{ path: 'model.onnx', sizeBytes: BigInt(model().length) }],
      aliases: [],
    })
    expect(version.digest).toBe(versionDigest(version))
    expect(await registry.client.getVersion({ name: version.name })).toEqual(version)
    expect(await registry.client.getVersion({ name: version.digest })).toEqual(version)
    const [file] = version.files
    expect(Buffer.compare(await downloadBytes(registry.client, file?.digest ?? ''), model())).toBe(0)
  })

  test('200 callers at once make the versions 1 to 200 without a gap', async () => {
    await createModel(registry)
    const { digest } = await uploadFile(registry.client, bytesSource(model()))
    const files = [{ path: 'model.onnx', digest }]
    const create = (requestId: string) =>
      registry.client.createVersion({ parent: 'models/flight-delay', requestId, files, ...bindings })
    const versions = await Promise.all(Array.from({ length: 200 }, () => create(randomUUID())))
    const numbers = versions.map(({ name }) => Number(name.split('/').at(-1))).sort((a, b) => a - b)
    expect(numbers).toEqual(Array.from({ length: 200 }, (_, index) => index + 1))
    const listed = await registry.client.listVersions({ parent: 'models/flight-delay', pageSize: 150 })
    expect(listed.versions[0]?.name).toBe('models/flight-delay/versions/200')
    const rest = { parent: 'models/flight-delay', pageSize: 150, pageToken: listed.nextPageToken }
    expect((await registry.client.listVersions(rest)).versions).toHaveLength(50)
  })

  test('a request id makes one version, also when many callers send it at once, and no second one for another request', async () => {
    await createModel(registry)
    const { digest } = await uploadFile(registry.client, bytesSource(model()))
    const request = { parent: 'models/flight-delay', requestId: randomUUID(), files: [{ path: 'model.onnx', digest }] }
    const versions = await Promise.all(Array.from({ length: 20 }, () => registry.client.createVersion(request)))
    expect(new Set(versions.map(({ name }) => name))).toEqual(new Set(['models/flight-delay/versions/1']))
    const other = await failureOf(registry.client.createVersion({ ...request, featureService: 'featureServices/x' }))
    expect(other).toMatchObject({ code: Code.ALREADY_EXISTS, reason: 'REQUEST_ID_REUSED' })
    expect(await registry.client.getModel({ name: 'models/flight-delay' })).toMatchObject({ latestVersion: 1n })
  })

  test('every problem of a request is named by its field, and nothing is created', async () => {
    await createModel(registry)
    const { digest } = await uploadFile(registry.client, bytesSource(model()))
    const { digest: text } = await uploadFile(registry.client, bytesSource(Buffer.from('not a model')))
    const absent = `sha256:${'0'.repeat(64)}`
    const file = { path: 'model.onnx', digest }
    const [distance, hour] = bindings.features
    const [late] = bindings.outputs
    const parentVersion = 'models/flight-delay/versions/9'
    const cases: [fields: string[], request: object][] = [
      [['files'], { files: [{ path: 'other.onnx', digest }] }],
      [['files[1].path'], { files: [file, file] }],
      [['files[1].path'], { files: [file, { path: '../etc', digest }] }],
      [['files[0].digest'], { files: [{ path: 'model.onnx', digest: absent }] }],
      [['files[0].size_bytes'], { files: [{ ...file, sizeBytes: 1n }] }],
      [['files[0]'], { files: [{ path: 'model.onnx', digest: text }] }],
      [['features[0].input'], { features: [{ ...distance, input: 'x' }, hour] }],
      [['features[1].column'], { features: [distance, { ...hour, column: 2 }] }],
      [['features'], { features: [distance] }],
      [['outputs[0].tensor'], { outputs: [{ ...late, tensor: 'x' }] }],
      [['lineage.parent_version'], { lineage: { parentVersion } }],
      [['reference_distributions[0].name'], { referenceDistributions: [{ name: 'x', kind: 1, ...numeric([0, 1]) }] }],
      [['reference_distributions[0].numeric.edges'], references([1, 0])],
    ]
    for (const [fields, wrong] of cases) {
      const request = { parent: 'models/flight-delay', requestId: randomUUID(), files: [file], ...bindings, ...wrong }
      const failure = await failureOf(registry.client.createVersion(request))
      expect(failure, fields.join()).toMatchObject({ code: Code.INVALID_ARGUMENT })
      expect(failure.violations.map((violation) => violation.field)).toEqual(expect.arrayContaining(fields))
    }
    expect(await registry.client.getModel({ name: 'models/flight-delay' })).toMatchObject({ latestVersion: 0n })
    const nowhere = { parent: 'models/absent', requestId: randomUUID(), files: [file] }
    expect(await failureOf(registry.client.createVersion(nowhere))).toMatchObject({ code: Code.NOT_FOUND })
  })

  test('a version without named outputs has each one-column output by its own name', async () => {
    await createModel(registry)
    const { digest } = await uploadFile(registry.client, bytesSource(model()))
    const files = [{ path: 'model.onnx', digest }]
    const version = await registry.client.createVersion({
      parent: 'models/flight-delay',
      requestId: randomUUID(),
      files,
    })
    expect(version.outputs).toMatchObject([{ output: 'probability', tensor: 'probability', column: 0 }])
  })
})

describe('aliases', () => {
  test('an alias moves to versions that passed, from the state that the mover saw, with all of its history', async () => {
    await createModel(registry)
    const [first, second] = [await createPassedVersion(registry), await createPassedVersion(registry, undefined, 2)]
    const name = 'models/flight-delay/aliases/champion'
    const created = await registry.client.setAlias({ name, version: first.name, reason: 'first' })
    expect(created).toMatchObject({ version: first.name, digest: first.digest, generation: 1n, reason: 'first' })
    const again = registry.client.setAlias({ name, version: second.name })
    expect(await failureOf(again)).toMatchObject({ code: Code.ABORTED, reason: 'STALE_ETAG' })
    const moved = await registry.client.setAlias(
      { name, version: second.name, etag: created.etag, reason: 'better' },
      { headers: { 'x-slipway-actor': 'mila' } },
    )
    expect(moved).toMatchObject({ version: second.name, generation: 2n, actor: 'mila' })
    const back = await registry.client.rollbackAlias({ name, etag: moved.etag, reason: 'worse after all' })
    expect(back).toMatchObject({ version: first.name, generation: 3n })
    expect(await registry.client.getVersion({ name })).toMatchObject({ name: first.name, aliases: ['champion'] })
    const { moves } = await registry.client.listAliasHistory({ name })
    expect(moves).toEqual([back, moved, created])
    const time = moved.updateTime ?? { seconds: 0n, nanos: 0 }
    expect(await registry.client.getAliasAt({ name, time })).toEqual(moved)
    const justBefore = { seconds: time.seconds, nanos: time.nanos - 1000 }
    expect(await registry.client.getAliasAt({ name, time: justBefore })).toEqual(created)
    const longAgo = registry.client.getAliasAt({ name, time: { seconds: 1n, nanos: 0 } })
    expect(await failureOf(longAgo)).toMatchObject({ code: Code.NOT_FOUND })
    const removed = await registry.client.deleteAlias({ name, etag: back.etag })
    expect(removed).toMatchObject({ version: '', generation: 4n })
    expect(await failureOf(registry.client.getAlias({ name }))).toMatchObject({ code: Code.NOT_FOUND })
    const revived = await registry.client.setAlias({ name, version: second.name })
    expect(revived.generation).toBe(5n)
  })

  test('a version whose gate has not passed is not deployable', async () => {
    await createModel(registry, undefined, { metrics: [{ metric: 1, bound: 0.9 }] })
    const version = await createVersion(registry)
    const name = 'models/flight-delay/aliases/champion'
    const set = () => registry.client.setAlias({ name, version: version.name })
    expect(await failureOf(set())).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'GATE_NOT_PASSED' })
    registry.inference.scores.set('1', (value) => 1 - value / 10)
    expect(await runGate(registry, version.name)).toMatchObject({ passed: false })
    expect(await failureOf(set())).toMatchObject({ metadata: { gateState: 'FAILED' } })
    registry.inference.scores.set('1', (value) => value / 10)
    expect(await runGate(registry, version.name)).toMatchObject({ passed: true })
    expect(await set()).toMatchObject({ version: version.name })
  })

  test.each(['latest', 'v7', '7'])('the alias %s is reserved', async (alias) => {
    await createModel(registry)
    const version = await createPassedVersion(registry)
    const set = registry.client.setAlias({ name: `models/flight-delay/aliases/${alias}`, version: version.name })
    const failure = await failureOf(set)
    expect(failure).toMatchObject({ code: Code.INVALID_ARGUMENT })
    expect(failure.violations[0]?.field).toBe('name')
  })

  test('a repeated request of the same id moves once, also after somebody else moved', async () => {
    await createModel(registry)
    const [first, second] = [await createPassedVersion(registry), await createPassedVersion(registry, undefined, 2)]
    const name = 'models/flight-delay/aliases/champion'
    const request = { name, version: first.name, requestId: randomUUID() }
    const moved = await registry.client.setAlias(request)
    const next = await registry.client.setAlias({ name, version: second.name, etag: moved.etag })
    expect(await registry.client.setAlias(request)).toEqual(moved)
    const back = { name, etag: next.etag, requestId: randomUUID() }
    const rolledBack = await registry.client.rollbackAlias(back)
    expect(await registry.client.rollbackAlias(back)).toEqual(rolledBack)
    expect((await registry.client.listAliasHistory({ name })).moves).toHaveLength(3)
  })

  test('an alias cannot be rolled back beyond its first move', async () => {
    await createModel(registry)
    const version = await createPassedVersion(registry)
    const name = 'models/flight-delay/aliases/champion'
    const { etag } = await registry.client.setAlias({ name, version: version.name })
    expect(await failureOf(registry.client.rollbackAlias({ name, etag }))).toMatchObject({
      reason: 'NO_VERSION_BEFORE',
    })
    const nowhere = { name: 'models/flight-delay/aliases/absent', etag: 'g1' }
    expect(await failureOf(registry.client.rollbackAlias(nowhere))).toMatchObject({ code: Code.NOT_FOUND })
  })

  test('50 movers at once: each generation has one winner, and the history is a chain of what each of them saw', async () => {
    await createModel(registry)
    const versions = [await createPassedVersion(registry), await createPassedVersion(registry, undefined, 2)]
    const name = 'models/flight-delay/aliases/champion'
    let { etag } = await registry.client.setAlias({ name, version: versions[0]?.name ?? '' })
    const won: { readonly seen: string; readonly made: string }[] = []
    let lost = 0
    await Promise.all(
      Array.from({ length: 50 }, async (_, mover) => {
        for (let turn = 0; turn < 4; turn++) {
          const seen = turn === 0 ? etag : (await registry.client.getAlias({ name })).etag
          const version = versions[(mover + turn) % 2]?.name ?? ''
          const attempt = registry.client.setAlias({ name, version, etag: seen, reason: `mover ${mover}` })
          await attempt.then(
            (moved) => won.push({ seen, made: moved.etag }),
            (failure: { reason?: string }) => {
              if (failure.reason !== 'STALE_ETAG') throw failure
              lost += 1
            },
          )
        }
      }),
    )
    expect(won.length + lost).toBe(200)
    expect(new Set(won.map(({ seen }) => seen)).size).toBe(won.length)
    const madeFrom = new Map(won.map(({ seen, made }) => [seen, made]))
    for (let chained = 0; chained < won.length; chained++) etag = madeFrom.get(etag) ?? 'broken'
    expect(etag).toBe((await registry.client.getAlias({ name })).etag)
    const { moves } = await registry.client.listAliasHistory({ name, pageSize: 1000 })
    expect(moves.map(({ generation }) => Number(generation))).toEqual(
      Array.from({ length: won.length + 1 }, (_, index) => won.length + 1 - index),
    )
  })
})

function numeric(edges: number[]) {
  return { cells: { case: 'numeric' as const, value: { edges } } }
}

function references(edges: number[]) {
  return { referenceDistributions: [{ name: 'distance', kind: 1, ...numeric(edges) }] }
}
