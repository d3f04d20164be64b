/** One request on its way through the service, over a unary call or as one message of a stream. */
import { create, toBinary } from '@bufbuild/protobuf'
import { ModelInferResponseSchema, ModelStreamInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import type { Failure, RawUnaryCall } from '@slipway/rpc'
import type { Context } from '@slipway/telemetry'
import { encodeRaw, headFor, typedResponse, withFinalResponse } from './answer.ts'
import type { OutputView } from './executors/executor.ts'
import type { Plan } from './plan.ts'
import type { Servable } from './servable.ts'
import type { VersionStatistics } from './statistics.ts'
import type { Envelope, ParameterValue } from './wire.ts'
import type { AnswerPart, Group, Work } from './work-queue.ts'

/** What a request's parameters ask for. */
export interface RequestOptions {
  /** 1 is the most urgent, 0 the default. */
  readonly priority: number
  readonly timeout: ParameterValue | undefined
  readonly traceParent: string | undefined
  /** True when the answer must say that it is the request's last. */
  readonly saysFinal: boolean
}

/** A request that was found to be one. */
export interface PlannedRequest {
  readonly version: Servable
  readonly statistics: VersionStatistics
  readonly plan: Plan
  readonly request: Buffer
  readonly envelope: Envelope
  /** The tensors' bytes: the request itself, or a copy where they came typed. */
  readonly bytes: Buffer
  readonly offsets: readonly number[]
  readonly options: RequestOptions
  readonly deadlineMs: number
  readonly trace: Context | undefined
}

/** What unary calls and messages of streams have in common. */
abstract class Prediction implements Work {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
  readonly group: Group
  readonly rows: number
  readonly deadlineMs: number
  readonly arrivedMs = performance.now()
  readonly #planned: PlannedRequest

  constructor(planned: PlannedRequest) {
    this.#planned = planned
    this.bytes = planned.bytes
    this.offsets = planned.offsets
    this.group = planned.plan.group
    this.rows = planned.plan.rows
    this.deadlineMs = planned.deadlineMs
  }

  get priority(): number {
    return this.#planned.options.priority
  }

  get trace(): Context | undefined {
    return this.#planned.trace
  }

  protected get id(): string {
    const { request, envelope } = this.#planned
    return request.toString('utf8', envelope.idStart, envelope.idEnd)
  }

  abstract readonly isCancelled: boolean
  protected abstract readonly isStream: boolean
  protected abstract send(message: Uint8Array): void
  protected abstract refuse(failure: Failure): void

  fail(failure: Failure): void {
    this.#planned.statistics.failed(this.arrivedMs)
    this.refuse(failure)
  }

  answer(outputs: readonly OutputView[], part: AnswerPart): void {
    const { statistics, plan, version, request, envelope, options } = this.#planned
    const { group } = plan
    statistics.answered(this.arrivedMs)
    if (plan.isTyped) {
      const response = typedResponse(version, this.id, group, outputs, part, options.saysFinal)
      const message = this.isStream
        ? toBinary(ModelStreamInferResponseSchema, create(ModelStreamInferResponseSchema, { inferResponse: response }))
        : toBinary(ModelInferResponseSchema, response)
      this.send(message)
      return
    }
    const head = headFor(version, group, outputs, part.rows, plan.answerHead)
    plan.answerHead = head
    const bytes = options.saysFinal ? withFinalResponse(head.bytes) : head.bytes
    this.send(encodeRaw(bytes, request, envelope, outputs, part, this.isStream))
  }
}

/** A unary call. */
export class UnaryPrediction extends Prediction {
  protected readonly isStream = false
  readonly #call: RawUnaryCall

  constructor(planned: PlannedRequest, call: RawUnaryCall) {
    super(planned)
    this.#call = call
  }

  get isCancelled(): boolean {
    return this.#call.cancelled
  }

  onCancel(listener: () => void): void {
    this.#call.onCancel(listener)
  }

  protected refuse(failure: Failure): void {
    this.#call.fail(failure)
  }

  protected send(message: Uint8Array): void {
    this.#call.answer(message)
  }
}

/** The stream that a message came over, as its predictions see it. */
export interface PredictionStream {
  readonly isClosed: boolean
  /** Who hears when it is closed before its predictions were answered. */
  readonly closing: Set<() => void>
  send(message: Uint8Array): void
  fail(id: string, failure: Failure): void
}

/** One message of a stream. */
export class StreamPrediction extends Prediction {
  protected readonly isStream = true
  readonly #stream: PredictionStream
  #listener: (() => void) | undefined

  constructor(planned: PlannedRequest, stream: PredictionStream) {
    super(planned)
    this.#stream = stream
  }

  get isCancelled(): boolean {
    return this.#stream.isClosed
  }

  onCancel(listener: () => void): void {
    this.#settle()
    this.#listener = listener
    this.#stream.closing.add(listener)
  }

  protected refuse(failure: Failure): void {
    this.#settle()
    this.#stream.fail(this.id, failure)
  }

  protected send(message: Uint8Array): void {
    this.#settle()
    this.#stream.send(message)
  }

  #settle(): void {
    if (this.#listener !== undefined) this.#stream.closing.delete(this.#listener)
  }
}

/** The bytes of a stream's answer to a request that failed: its text and id, and code and reason as parameters. */
export function encodeStreamFailure(id: string, failure: Failure): Uint8Array {
  const integer = (value: number) => ({
    parameterChoice: { case: 'int64Param' as const, value: BigInt(Math.ceil(value)) },
  })
  return toBinary(
    ModelStreamInferResponseSchema,
    create(ModelStreamInferResponseSchema, {
      errorMessage: failure.message,
      inferResponse: {
        id,
        parameters: {
          error_code: integer(failure.code),
          error_reason: { parameterChoice: { case: 'stringParam', value: failure.reason } },
          ...(failure.retryAfterMs === undefined ? {} : { retry_after_ms: integer(failure.retryAfterMs) }),
        },
      },
    }),
  )
}
