import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { publishTo, topics } from '@slipway/events'
import { identityModel } from '@slipway/onnx'
import { FeatureStatus, type PredictionLoggedSchema } from '@slipway/proto/slipway/events/v1/prediction'
import { BatchJobState } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { FeatureType, type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { query, type Replica, reached, startReplica } from './replica.fixture.ts'

const digestOf = (number: number): string => `sha256:${String(number).repeat(64)}`

/** Version 1 was bound in another order than version 2, and had a feature more. */
const versions: Readonly<Record<string, ModelVersion>> = {
  'models/pair/versions/1': create(ModelVersionSchema, {
    name: 'models/pair/versions/1',
    digest: digestOf(1),
    features: [
      { feature: 'b', type: FeatureType.INT64, input: 'input', column: 0 },
      { feature: 'note', type: FeatureType.STRING, input: 'other', column: 0 },
      { feature: 'a', type: FeatureType.DOUBLE, input: 'input', column: 1 },
    ],
    outputs: [{ output: 'first', tensor: 'output', column: 0 }],
  }),
  'models/pair/versions/2': create(ModelVersionSchema, {
    name: 'models/pair/versions/2',
    digest: digestOf(2),
    features: [
      { feature: 'a', type: FeatureType.DOUBLE, input: 'input', column: 0 },
      { feature: 'b', type: FeatureType.INT64, input: 'input', column: 1 },
    ],
    outputs: [
      { output: 'first', tensor: 'output', column: 0 },
      { output: 'second', tensor: 'output', column: 1 },
    ],
  }),
}

let directory: string
let replica: Replica
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-log-'))
  replica = await startReplica({
    shared: directory,
    own: join(directory, 'own'),
    models: [{ model: 'pair', number: '2', digest: digestOf(2), bytes: identityModel('FP32', [-1, 2]) }],
    findVersion: async (name) => {
      const version = versions[name]
      if (version === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_VERSION', name)
      return version
    },
  })
})
afterAll(async () => {
  await replica.stop()
  rmSync(directory, { recursive: true, force: true })
})

type Logged = MessageInitShape<typeof PredictionLoggedSchema>

/** A prediction that version 1 answered. */
function logged(index: number, change: Logged = {}): Logged {
  return {
    predictionId: `p${index}`,
    endpoint: 'endpoints/e',
    modelVersion: 'models/pair/versions/1',
    digest: digestOf(1),
    eventTime: timestampFromMs(1_000_000 + index),
    featureStatuses: [FeatureStatus.PRESENT, FeatureStatus.PRESENT, FeatureStatus.PRESENT],
    int64s: [BigInt(index)],
    strings: ['"quoted" ä'],
    doubles: [index / 3],
    outputs: [index / 7],
    ...change,
  }
}

test('what an older version answered is recomputed, each prediction once, by the names of its features', async () => {
  const rows = Array.from({ length: 1200 }, (_, index) => logged(index))
  const absent = logged(1200, {
    featureStatuses: [FeatureStatus.PRESENT, FeatureStatus.PRESENT, FeatureStatus.NOT_FOUND],
    doubles: [Number.NaN],
  })
  const others = [
    logged(9001, { endpoint: 'endpoints/other' }),
    logged(9002, { modelVersion: 'models/pair/versions/2', digest: digestOf(2) }),
  ]
  for (let from = 0; from < rows.length; from += 300) {
    await publishTo(replica.bus, topics.predictions, rows.slice(from, from + 300))
  }
  await publishTo(replica.bus, topics.predictions, [absent, ...others, ...rows.slice(0, 50)])
  const outputDirectory = join(directory, 'out')
  const { name } = await replica.client.createBatchJob({
    batchJob: {
      modelVersion: 'models/pair/versions/2',
      input: { case: 'predictionLog', value: { endpoint: 'endpoints/e', modelVersion: 'models/pair/versions/1' } },
      outputDirectory,
      options: { keyColumns: ['a'], rowsPerPart: 500 },
    },
  })
  const done = await reached(replica.client, name, BatchJobState.SUCCEEDED)
  expect(done.progress).toMatchObject({ rowsDone: 1201n, partsDone: 3 })
  const all = `'${outputDirectory}/*.parquet'`
  const columns = await query(`select column_name from (describe select * from ${all})`)
  expect(columns.flat()).toEqual([
    'prediction_id',
    'event_time',
    'model_version',
    'logged_first',
    'logged_second',
    'a',
    'first',
    'second',
  ])
  const n = `replace(prediction_id, 'p', '')::int`
  const [counts] = await query(
    `select count(distinct prediction_id)::int, sum(second <> ${n})::int, sum(first <> (${n} / 3)::float)::int,
       sum(logged_first <> ${n} / 7)::int, count(logged_second)::int, epoch_ms(min(event_time))::int from ${all} where ${n} < 1200`,
  )
  expect(counts).toEqual([1200, 0, 0, 0, 0, 1_000_000])
  expect(await query(`select first, second from ${all} where prediction_id = 'p1200'`)).toEqual([['NaN', 1200]])
})

test('a version that is registered and not held is told from one that nobody knows', async () => {
  const ask = (modelVersion: string) =>
    replica.client.createBatchJob({
      batchJob: {
        modelVersion,
        input: { case: 'predictionLog', value: { endpoint: 'endpoints/e' } },
        outputDirectory: join(directory, 'never'),
      },
    })
  const notHeld = { code: Code.FAILED_PRECONDITION, reason: 'VERSION_NOT_HELD' }
  await expect(ask('models/pair/versions/1')).rejects.toMatchObject(notHeld)
  await expect(ask('models/pair/versions/9')).rejects.toMatchObject({ code: Code.NOT_FOUND })
})

test('a feature that was not logged fails the job, which says which', async () => {
  await publishTo(replica.bus, topics.predictions, [
    logged(1, { modelVersion: 'models/pair/versions/3', endpoint: 'endpoints/f' }),
  ])
  const { name } = await replica.client.createBatchJob({
    batchJob: {
      modelVersion: 'models/pair',
      input: { case: 'predictionLog', value: { endpoint: 'endpoints/f' } },
      outputDirectory: join(directory, 'failed'),
    },
  })
  const job = await reached(replica.client, name, BatchJobState.FAILED)
  expect(job.message).toContain('models/pair/versions/3')
})
