/** A process that answers asynchronous requests for the model `identity`, until it is killed: `<shared bus> <own folder>`. */
import { identityModel } from '@slipway/onnx'
import { createInference } from '../infer.ts'
import { openSharedBus } from '../replica-bus.fixture.ts'
import { serve } from '../testing.ts'
import { createAsyncPredictions } from './async-predictions.ts'

const [shared = '', directory = ''] = process.argv.slice(2)
const models = await serve([{ model: 'identity', bytes: identityModel('FP32', [-1, 1]) }])
const room = await createAsyncPredictions({
  bus: openSharedBus(shared),
  inference: createInference(models),
  directory,
  answersAsyncRequests: true,
  asyncResultRetentionMs: 3_600_000,
  asyncRetryMs: 1000,
  webhookHosts: new Set(),
  webhookSecret: undefined,
})
room.start()
process.send?.('started')
