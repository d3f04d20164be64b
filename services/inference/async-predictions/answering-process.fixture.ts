/** A process that answers asynchronous requests for the model `identity` over the bus in a folder, until it is killed. */
import { join } from 'node:path'
import { openEmbeddedBus } from '@slipway/events'
import { identityModel } from '@slipway/onnx'
import { createInference } from '../infer.ts'
import { serve } from '../testing.ts'
import { createAsyncPredictions } from './async-predictions.ts'

const [, , folder = ''] = process.argv
const models = await serve([{ model: 'identity', bytes: identityModel('FP32', [-1, 1]) }])
const room = await createAsyncPredictions({
  bus: openEmbeddedBus({ path: join(folder, 'events.db') }),
  inference: createInference(models),
  directory: join(folder, 'server'),
  answersAsyncRequests: true,
  asyncResultRetentionMs: 3_600_000,
  asyncRetryMs: 1000,
  webhookHosts: new Set(),
  webhookSecret: undefined,
})
room.start()
process.send?.('started')
