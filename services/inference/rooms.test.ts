import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import {
  AsyncPredictionService,
  AsyncPredictionState,
} from '@slipway/proto/slipway/inference/v1/async_prediction_service'
import { createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type RunningKafka, startKafka } from '../../tools/backends/index.ts'
import { type FakeRegistry, startFakeRegistry } from './fake-registry.ts'
import { start } from './main.ts'

const isWanted = process.env.SLIPWAY_TEST_KAFKA !== undefined

describe.skipIf(!isWanted)('a service whose rooms are on Kafka stops', () => {
  let directory: string
  let registry: FakeRegistry
  let kafka: RunningKafka
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'slipway-rooms-'))
    registry = await startFakeRegistry()
    kafka = await startKafka()
  })
  afterEach(async () => {
    await kafka.stop()
    await registry.stop()
    await rm(directory, { recursive: true, force: true })
  })

  const open = async (): Promise<RunningService> =>
    await start({
      SLIPWAY_DATA_DIR: directory,
      SLIPWAY_LISTEN: '127.0.0.1:0',
      SLIPWAY_REGISTRY_ADDRESS: registry.address,
      SLIPWAY_KAFKA_BROKERS: kafka.brokers.join(','),
      SLIPWAY_LOG_LEVEL: 'off',
    })

  /** Has a request answered over the bus: its model is unknown, and that is its result. */
  async function untilAnswering({ address }: RunningService): Promise<void> {
    const client = createClient(AsyncPredictionService, { address })
    const request = toBinary(
      ModelInferRequestSchema,
      create(ModelInferRequestSchema, {
        modelName: 'nobody',
        inputs: [{ name: 'x', datatype: 'FP32', shape: [1n] }],
        rawInputContents: [Buffer.alloc(4)],
      }),
    )
    const { requestId } = await client.submitPrediction({ request })
    const state = async () => (await client.getPrediction({ requestId }).catch(() => undefined))?.state
    await expect.poll(state).toBe(AsyncPredictionState.FAILED)
    client.close()
  }

  test('at once after its start, and when it answers requests', async () => {
    await (await open()).stop()
    const service = await open()
    await untilAnswering(service)
    await service.stop()
  })

  test('when the broker is gone, and when it was never there', async () => {
    const service = await open()
    await untilAnswering(service)
    await kafka.kill()
    await service.stop()
    await (await open()).stop()
  })

  test('when the broker takes connections and answers nothing', async () => {
    const service = await open()
    await untilAnswering(service)
    process.kill(kafka.pid, 'SIGSTOP')
    await service.stop()
    process.kill(kafka.pid, 'SIGCONT')
  })
})
