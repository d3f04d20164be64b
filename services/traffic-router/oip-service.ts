/**
 * Answers the Open Inference Protocol with the endpoint's id as model name. Tensors pass through as bytes.
 *
 * 1. A request goes to the variant of its routing key (parameter `routing_key`; without it, its prediction id), or to the
 *    variant of the version that it asks for.
 * 2. The caller's id comes back as it was; the answer's parameters name prediction, variant, model and digest.
 * 3. A request of a stream fails alone, and its stream goes on; unless the caller's header `triton_grpc_error: true` asks
 *    for the stream to end with the failure's status.
 */
import { randomUUID } from 'node:crypto'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import {
  Code,
  Failure,
  type Implementation,
  implement,
  implementRawStream,
  implementRawUnary,
  type RawStream,
} from '@slipway/rpc'
import type { ExplainingLog } from './explanation.ts'
import type { InferencePool } from './inference-pool.ts'
import { MAX_ECHOED_CHARACTERS, MAX_STREAM_IN_FLIGHT } from './limits.ts'
import type { Observer } from './observer.ts'
import {
  renamedRequest,
  renamedResponse,
  renamedStreamResponse,
  type ScannedRequest,
  scanInferRequest,
  streamFailure,
} from './oip-message.ts'
import { isPredictionId, malformed } from './predict-message.ts'
import type { PredictionLog } from './prediction-log.ts'
import type { AnsweredRequest } from './prediction-record.ts'
import { assign, type RoutingTable, type ServedEndpoint, type ServedVariant } from './routing-table.ts'
import { isSampled } from './sampling.ts'
import { startRequestTrace } from './trace.ts'

/** What the service needs. */
export interface OipServiceOptions {
  readonly table: RoutingTable
  readonly pool: Pick<InferencePool, 'nextId' | 'send'>
  readonly inference: { readonly isReady: boolean }
  readonly log: Pick<PredictionLog, 'request'>
  readonly explaining: Pick<ExplainingLog, 'rows'>
  readonly observer: Observer
  /** How long a call without a deadline may take. */
  readonly defaultTimeoutMs: number
}

/** Where an answer goes. */
interface Caller {
  readonly deadlineMs: number
  header(name: string): string | undefined
  answer(response: Buffer, names: { model: string; id: string }, about: { predictionId: string; encoded: Buffer }): void
  fail(failure: Failure, id: string): void
}

/** The methods of GRPCInferenceService. */
export function createOipService(options: OipServiceOptions): Implementation[] {
  const { table, inference } = options
  return [
    implementRawUnary(GRPCInferenceService.method.modelInfer, (request, call) => {
      forward(options, request, {
        deadlineMs: call.deadlineMs,
        header: (name) => call.header(name),
        answer: (response, names, about) => call.answer(renamedResponse(response, names, about)),
        fail: (failure) => call.fail(failure),
      })
    }),
    implementRawStream(GRPCInferenceService.method.modelStreamInfer, (stream) => serveStream(options, stream)),
    implement(GRPCInferenceService, {
      async serverLive() {
        return { live: true }
      },
      async serverReady() {
        return { ready: inference.isReady }
      },
      async serverMetadata() {
        return { name: 'slipway', version: '0.1.0', extensions: ['binary_tensor_data', 'parameters'] }
      },
      async modelReady({ name, version }) {
        const endpoint = table.find(name)
        const isKnown = version === '' || endpoint?.variants.some((variant) => variant.number === version) === true
        return { ready: endpoint !== undefined && isKnown && inference.isReady }
      },
      async modelMetadata({ name, version }) {
        const endpoint = endpointOf(table, name)
        const variant = version === '' ? endpoint.variants[0] : pinned(endpoint, version)
        const signature = variant?.version.signature
        return {
          name: endpoint.id,
          versions: endpoint.variants.map((each) => each.number),
          platform: 'onnxruntime_onnx',
          inputs: signature?.inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })) ?? [],
          outputs: signature?.outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })) ?? [],
        }
      },
    }),
  ]
}

function serveStream(options: OipServiceOptions, stream: RawStream): void {
  const endsOnError = stream.header('triton_grpc_error') === 'true'
  let inFlight = 0
  let isEnded = false
  let isOver = false
  const done = (message: Buffer): void => {
    inFlight--
    if (isOver) return
    stream.write(message)
    if (isEnded && inFlight === 0) stream.end()
    else if (inFlight === MAX_STREAM_IN_FLIGHT / 2 && !stream.writableNeedsDrain) stream.resume()
  }
  stream.onMessage((request) => {
    inFlight++
    if (inFlight >= MAX_STREAM_IN_FLIGHT || stream.writableNeedsDrain) stream.pause()
    forward(options, request, {
      deadlineMs: stream.deadlineMs,
      header: (name) => stream.header(name),
      answer: (response, names, about) => done(renamedStreamResponse(response, names, about)),
      fail: (failure, id) => {
        if (!endsOnError) done(streamFailure(id, failure))
        else if (!isOver) {
          isOver = true
          stream.fail(failure)
        }
      },
    })
  })
  stream.onDrain(() => {
    if (inFlight < MAX_STREAM_IN_FLIGHT) stream.resume()
  })
  stream.onEnd(() => {
    isEnded = true
    if (inFlight === 0 && !isOver) stream.end()
  })
  stream.onCancel(() => {
    isOver = true
  })
}

function forward(options: OipServiceOptions, request: Buffer, caller: Caller): void {
  const startedMs = performance.now()
  const requestTimeMicros = Date.now() * 1_000
  const trace = startRequestTrace('infer', (name) => caller.header(name), {})
  let scanned: ScannedRequest | undefined
  const fail = (error: unknown): void => {
    const failure = Failure.from(malformed(error))
    caller.fail(failure, scanned?.id ?? '')
    options.observer.failed(trace, failure, startedMs)
  }
  try {
    scanned = scanInferRequest(request)
    const names = { model: scanned.modelName, id: scanned.id }
    const endpoint = endpointOf(options.table, scanned.modelName)
    const predictionId = isPredictionId(scanned.id) ? scanned.id : randomUUID()
    const { variant, bucket, propensity } = choose(endpoint, scanned, predictionId)
    const deadlineMs = deadlineOf(caller.deadlineMs, scanned.timeoutMicros, options.defaultTimeoutMs)
    const id = options.pool.nextId()
    const message = renamedRequest(request, {
      model: variant.model,
      version: variant.number,
      id,
      timeoutMicros: Math.max(1, (deadlineMs - Date.now()) * 1_000),
      traceparent: trace?.headers.traceparent ?? '',
    })
    const choice = { endpoint, variant, bucket, propensity, predictionId }
    options.pool.send(id, message, deadlineMs, (failure, response) => {
      if (failure === undefined) {
        caller.answer(response, names, { predictionId, encoded: variant.answerParameters })
        options.observer.answered(variant, endpoint, startedMs)
        options.observer.ended(trace, choice)
      } else fail(failure)
      logAnswer(options, {
        ...choice,
        requestTimeMicros,
        totalMicros: Math.round((performance.now() - startedMs) * 1_000),
        request,
        response,
        code: failure?.code ?? Code.OK,
        headers: trace?.headers,
      })
    })
  } catch (error) {
    fail(error)
  }
}

function deadlineOf(callerMs: number, timeoutMicros: number, defaultTimeoutMs: number): number {
  const now = Date.now()
  const deadlineMs = Math.min(callerMs, now + timeoutMicros / 1_000)
  return Number.isFinite(deadlineMs) ? deadlineMs : now + defaultTimeoutMs
}

/** Logs what was answered, as far as it is sampled. */
function logAnswer({ log, explaining }: OipServiceOptions, answered: AnsweredRequest): void {
  const { endpoint, predictionId } = answered
  if (answered.code === Code.OK) explaining.rows(answered)
  if (isSampled(predictionId, endpoint.requestSamplingRate)) log.request(answered)
}

/** The variant that answers, with its bucket and the probability of that choice. */
function choose(
  endpoint: ServedEndpoint,
  scanned: ScannedRequest,
  predictionId: string,
): { variant: ServedVariant; bucket: number; propensity: number } {
  const { variant, bucket } = assign(endpoint, scanned.routingKey === '' ? predictionId : scanned.routingKey)
  if (scanned.modelVersion === '') return { variant, bucket, propensity: variant.propensity }
  return { variant: pinned(endpoint, scanned.modelVersion), bucket, propensity: 1 }
}

function endpointOf(table: RoutingTable, name: string): ServedEndpoint {
  const endpoint = table.find(name)
  if (endpoint !== undefined) return endpoint
  const echoed = name.slice(0, MAX_ECHOED_CHARACTERS)
  throw new Failure(Code.NOT_FOUND, 'ENDPOINT_NOT_FOUND', `Request for unknown model: '${echoed}' is not found`, {
    metadata: { endpoint: echoed },
  })
}

/** The variant of a version that the caller asks for by number. */
function pinned(endpoint: ServedEndpoint, version: string): ServedVariant {
  const variant = endpoint.variants.find((each) => each.number === version)
  if (variant !== undefined) return variant
  const echoed = version.slice(0, MAX_ECHOED_CHARACTERS)
  const message = `Request for unknown model: '${endpoint.id}' version ${echoed} is not found`
  throw new Failure(Code.NOT_FOUND, 'VERSION_NOT_FOUND', message, { metadata: { endpoint: endpoint.id } })
}
