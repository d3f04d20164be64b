import { randomUUID } from 'node:crypto'
import { create, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt'
import { type EventBus, limits, publishTo, topics } from '@slipway/events'
import { AsyncPredictionRequestedSchema } from '@slipway/proto/slipway/events/v1/async_prediction'
import {
  type AsyncPredictionService,
  AsyncPredictionState,
} from '@slipway/proto/slipway/inference/v1/async_prediction_service'
import { Code, Failure, type Handlers } from '@slipway/rpc'
import { RESULT_OVERHEAD_BYTES } from './processor.ts'
import { isRequest } from './request-parameters.ts'
import type { ResultIndex } from './result-index.ts'
import type { Webhooks } from './webhooks.ts'

/** What the service needs from around it. */
export interface AsyncPredictionServiceOptions {
  readonly bus: EventBus
  readonly index: ResultIndex
  readonly webhooks: Webhooks | undefined
  readonly refuseWebhook: (url: string) => Failure | undefined
}

/** Makes what answers `slipway.inference.v1.AsyncPredictionService`. */
export function createAsyncPredictionService(
  options: AsyncPredictionServiceOptions,
): Handlers<typeof AsyncPredictionService> {
  const { bus, index, webhooks, refuseWebhook } = options
  return {
    async submitPrediction({ requestId: given, request, expireTime, webhookUrl }, { signal }) {
      if (!isRequest(request)) throw Failure.invalid('request', 'is not a valid ModelInferRequest')
      if (expireTime !== undefined && timestampMs(expireTime) <= Date.now())
        throw Failure.invalid('expire_time', 'has passed')
      const refused = webhookUrl === '' ? undefined : refuseWebhook(webhookUrl)
      if (refused !== undefined) throw refused
      const requestId = given === '' ? randomUUID() : given
      const message = create(AsyncPredictionRequestedSchema, {
        requestId,
        request,
        webhookUrl,
        requestTime: timestampFromMs(Date.now()),
        ...(expireTime === undefined ? {} : { expireTime }),
      })
      const most = limits.maxRecordBytes - RESULT_OVERHEAD_BYTES
      if (toBinary(AsyncPredictionRequestedSchema, message).length > most)
        throw Failure.invalid('request', `is larger than the ${most} bytes that go over the bus`)
      await publishTo(bus, topics.asyncRequests, [message], { source: '/slipway/inference', signal })
      return { requestId }
    },
    async getPrediction({ requestId }) {
      const known = await index.get(requestId)
      if (known === undefined)
        throw new Failure(
          Code.NOT_FOUND,
          'UNKNOWN_REQUEST',
          `no asynchronous request '${requestId.slice(0, 128)}' is known`,
        )
      const { result, requestTimeMs } = known
      const requestTime = timestampFromMs(requestTimeMs)
      if (result === undefined) return { requestId, state: AsyncPredictionState.PENDING, requestTime }
      const { response, code, reason, message, completeTime } = result
      const delivery = await webhooks?.get(requestId)
      return {
        requestId,
        state: code === Code.OK ? AsyncPredictionState.ANSWERED : AsyncPredictionState.FAILED,
        response,
        code,
        reason,
        message,
        requestTime,
        ...(completeTime === undefined ? {} : { completeTime }),
        ...(delivery === undefined ? {} : { webhook: describeDelivery(delivery) }),
      }
    },
  }
}

function describeDelivery({
  url,
  attempts,
  state,
  ended_ms,
  last_error,
}: NonNullable<Awaited<ReturnType<Webhooks['get']>>>) {
  return {
    url,
    attempts,
    givenUp: state === 'given-up',
    lastError: last_error,
    ...(state === 'delivered' && ended_ms !== null ? { deliverTime: timestampFromMs(ended_ms) } : {}),
  }
}
