import { fromBinary } from '@bufbuild/protobuf'
import { consume, type EventBus, topics } from '@slipway/events'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import type { RawTensor } from '../local-predictions.ts'

/** Which requests are wanted. */
export interface RecordedLoadOptions {
  /** `endpoints/{endpoint}`. */
  readonly endpoint: string
  readonly maxRequests: number
  readonly signal: AbortSignal
}

/**
 * The newest requests that were sampled of an endpoint and carry their tensors raw, as tensors. FAILED_PRECONDITION when there are
 * none.
 */
export async function recordedLoad(bus: EventBus, options: RecordedLoadOptions): Promise<RawTensor[][]> {
  const { endpoint, maxRequests, signal } = options
  const newest: RawTensor[][] = []
  const subscription = await consume(bus, topics.requests, {
    group: 'slipway-inference-profile',
    isTemporary: true,
    handle: async (events) => {
      for (const { message } of events) {
        if (message.endpoint !== endpoint) continue
        const tensors = tensorsOf(message.request)
        if (tensors !== undefined) newest.push(tensors)
        if (newest.length > maxRequests) newest.shift()
      }
    },
  })
  try {
    await Promise.race([subscription.caughtUp(), aborted(signal)])
  } finally {
    await subscription.stop()
  }
  if (newest.length > 0) return newest
  const message = `no request of ${endpoint} was sampled: its sampling rate is 0, or nobody called it`
  throw new Failure(Code.FAILED_PRECONDITION, 'NO_RECORDED_REQUESTS', message)
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const giveUp = (): void => reject(new Failure(Code.CANCELLED, 'CANCELLED', 'the caller is gone'))
    if (signal.aborted) giveUp()
    else signal.addEventListener('abort', giveUp, { once: true })
  })
}

function tensorsOf(bytes: Uint8Array): RawTensor[] | undefined {
  try {
    const { inputs, rawInputContents } = fromBinary(ModelInferRequestSchema, bytes)
    if (rawInputContents.length !== inputs.length) return undefined
    return inputs.map(({ name, datatype, shape }, index) => ({
      name,
      datatype,
      shape: shape.map(Number),
      bytes: Buffer.from(rawInputContents[index] ?? []),
    }))
  } catch {
    return undefined
  }
}
