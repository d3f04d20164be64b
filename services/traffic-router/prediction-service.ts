/** Answers PredictionService: Predict in bytes on the hot path, RecordFeedback by the outbox. */
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { cloudEventHeader, encodeEvent, topics } from '@slipway/events'
import { type Feedback, PredictionService } from '@slipway/proto/slipway/routing/v1/prediction_service'
import { Failure, type Implementation, implement, implementRawUnary, type RawUnaryCall } from '@slipway/rpc'
import { attribute, meter, metric } from '@slipway/telemetry'
import type { ExplainingLog } from './explanation.ts'
import type { Observer } from './observer.ts'
import type { Outbox } from './outbox.ts'
import { malformed } from './predict-message.ts'
import { type PredictorOptions, predict } from './prediction.ts'
import { startRequestTrace } from './trace.ts'

/** What the service needs. */
export interface PredictionServiceOptions extends PredictorOptions {
  readonly log: Pick<ExplainingLog, 'prediction'>
  readonly outbox: Pick<Outbox, 'append'>
  readonly observer: Observer
  /** How long a call without a deadline may take. */
  readonly defaultTimeoutMs: number
}

const feedbackCount = meter('slipway.traffic-router').createCounter(metric.feedbackRecorded)

/** The methods of PredictionService. */
export function createPredictionService(options: PredictionServiceOptions): Implementation[] {
  return [
    implementRawUnary(PredictionService.method.predict, (request, call) => void answer(options, request, call)),
    implement(PredictionService, {
      async recordFeedback({ endpoint, feedback }) {
        options.table.get(endpoint)
        const now = Date.now()
        await options.outbox.append(feedback.map((each) => feedbackRecord(endpoint, each, now)))
        feedbackCount.add(feedback.length, { [attribute.endpoint]: endpoint })
        return { recordedCount: feedback.length }
      },
    }),
  ]
}

async function answer(options: PredictionServiceOptions, request: Buffer, call: RawUnaryCall): Promise<void> {
  const startedMs = performance.now()
  const trace = startRequestTrace('predict', (name) => call.header(name), {})
  try {
    const deadlineMs = Number.isFinite(call.deadlineMs) ? call.deadlineMs : Date.now() + options.defaultTimeoutMs
    const { endpoint, response, answered } = await predict(options, request, { deadlineMs, trace })
    call.answer(response)
    for (const each of answered) {
      options.observer.answered(each.variant, each.endpoint, startedMs)
      options.log.prediction(each)
    }
    const first = answered[0]
    if (first !== undefined) options.observer.stages(first.stages, endpoint)
    options.observer.ended(trace, first)
  } catch (error) {
    const failure = Failure.from(malformed(error))
    call.fail(failure)
    options.observer.failed(trace, failure, startedMs)
  }
}

/** Feedback as a record of `slipway.feedback.v1`; the same feedback is the same event. */
function feedbackRecord(endpoint: string, feedback: Feedback, nowMs: number): ReturnType<typeof encodeEvent> {
  const id = feedback.feedbackId === '' ? `${feedback.predictionId}:${feedback.outcome.case}` : feedback.feedbackId
  const record = encodeEvent(
    topics.feedback,
    {
      predictionId: feedback.predictionId,
      endpoint,
      outcome: feedback.outcome,
      eventTime: feedback.eventTime ?? timestampFromMs(nowMs),
      feedbackId: id,
    },
    { source: `/slipway/traffic-router/${endpoint.slice('endpoints/'.length)}` },
  )
  return { ...record, headers: { ...record.headers, [cloudEventHeader.id]: id } }
}
