/** `ModelInfer` and `ModelStreamInfer` in bytes: from a request to its place in a version's queue. */

import type { ModelInferRequest } from '@slipway/proto/inference/grpc_service'
import { Failure, type RawStream, type RawUnaryCall } from '@slipway/rpc'
import type { Context } from '@slipway/telemetry'
import { consecutive } from './bytes.ts'
import { serveStream } from './infer-stream.ts'
import type { ModelTable } from './model-table.ts'
import { traceOf } from './observer.ts'
import { decodeHead, type Plan, planRequest } from './plan.ts'
import { type PlannedRequest, UnaryPrediction } from './prediction.ts'
import { checkRaw } from './raw-tensors.ts'
import { echo, invalid, malformed, refusal } from './refusals.ts'
import type { Servable } from './servable.ts'
import type { Statistics, VersionStatistics } from './statistics.ts'
import { hasContents, packTyped } from './typed-tensors.ts'
import { type Envelope, isText, type ParameterValue, readParameter, scanRequest } from './wire.ts'

const MAX_KNOWN_HEADS = 4096
const MAX_KNOWN_HEAD_BYTES = 4096
const MAX_TIMER_MS = 2 ** 31 - 1
const RESERVED_PREFIX = 'triton_'
/** Asks that answers say whether they are a request's last. */
const FINAL_RESPONSE_ASKED = 'triton_enable_empty_final_response'
const MAX_PRIORITY = 2 ** 31 - 1
/** Longest id of a request. */
export const MAX_ID_BYTES = 1024

/** A head that was decoded, and the plan that was made of it for a version. */
interface KnownHead {
  readonly model: string
  readonly version: string
  readonly request: ModelInferRequest
  /** The first input with typed contents; -1 when there is none. */
  readonly typedInput: number
  served: Servable | undefined
  plan: Plan | undefined
  statistics: VersionStatistics | undefined
}

/** The two hot methods over a table of models. */
export interface Inference {
  unary(request: Buffer, call: RawUnaryCall): void
  stream(stream: RawStream): void
}

/** What the handlers need from around them. */
export interface InferenceOptions {
  readonly models: ModelTable
  /** Counts what happens to requests. */
  readonly statistics: Statistics
  /** Most rows of one request; what is larger would never find room in a queue. */
  readonly maxRequestRows?: number
}

/** What every request is planned with. */
interface Planner extends Required<InferenceOptions> {
  readonly heads: HeadTable
}

/** Makes the handlers. */
export function createInference(options: InferenceOptions): Inference {
  const planner: Planner = { maxRequestRows: Number.POSITIVE_INFINITY, ...options, heads: new HeadTable() }
  const plan = (request: Buffer, deadlineMs: number) => planOne(planner, request, deadlineMs)
  return {
    unary(request, call) {
      const offer = (planned: PlannedRequest): void => planned.version.offer(new UnaryPrediction(planned, call))
      const planned = plan(request, call.deadlineMs)
      if (planned instanceof Promise) planned.then(offer).catch((error: unknown) => call.fail(error))
      else offer(planned)
    },
    stream(stream) {
      serveStream(stream, (request) => plan(request, stream.deadlineMs))
    },
  }
}

/** Heads by their bytes; forgotten all at once when they are too many. */
class HeadTable {
  readonly #known = new Map<string, KnownHead>()

  find(head: string): KnownHead {
    const known = this.#known.get(head)
    if (known !== undefined) return known
    const request = decodeHead(head)
    const fresh: KnownHead = {
      model: request.modelName,
      version: request.modelVersion,
      request,
      typedInput: request.inputs.findIndex((input) => hasContents(input.contents)),
      served: undefined,
      plan: undefined,
      statistics: undefined,
    }
    if (fresh.typedInput >= 0 || head.length > MAX_KNOWN_HEAD_BYTES) return fresh
    if (this.#known.size >= MAX_KNOWN_HEADS) this.#known.clear()
    this.#known.set(head, fresh)
    return fresh
  }
}

/** A request that was read, before its version is known. */
interface ReadRequest {
  readonly request: Buffer
  readonly envelope: Envelope
  readonly head: KnownHead
  readonly priority: number
  readonly deadlineMs: number
  readonly trace: Context | undefined
  readonly saysFinal: boolean
}

function planOne(planner: Planner, request: Buffer, callDeadlineMs: number): PlannedRequest | Promise<PlannedRequest> {
  const envelope = scan(request)
  const head = planner.heads.find(envelope.head)
  const parameters = envelope.parameters.length === 0 ? undefined : readParameters(request, envelope.parameters)
  const read: ReadRequest = {
    request,
    envelope,
    head,
    priority: priorityOf(parameters?.get('priority')),
    deadlineMs: deadlineOf(callDeadlineMs, parameters?.get('timeout')),
    trace: traceOf(textOf(parameters?.get('traceparent'))),
    saysFinal: parameters?.get(FINAL_RESPONSE_ASKED) === true,
  }
  const version = planner.models.acquire(head.model, head.version)
  if (!(version instanceof Promise)) return planFor(planner, version, read)
  return beforeDeadline(version, read.deadlineMs, head.model).then((loaded) => planFor(planner, loaded, read))
}

/** A request that is refused for what it is counts as a failed one of the version that it was for. */
function planFor(planner: Planner, version: Servable, read: ReadRequest): PlannedRequest {
  try {
    return planChecked(planner, version, read)
  } catch (error) {
    planner.statistics.of(version).failed(performance.now())
    throw error
  }
}

function planChecked(
  { statistics: all, maxRequestRows }: Planner,
  version: Servable,
  { request, envelope, head, priority, deadlineMs, trace, saysFinal }: ReadRequest,
): PlannedRequest {
  let { plan, statistics } = head
  if (plan === undefined || statistics === undefined || head.served !== version) {
    plan = planRequest(head.request, version.signature, version.group)
    if (plan.rows > maxRequestRows) {
      throw invalid('inputs', `inference request batch-size must be <= ${maxRequestRows} for '${echo(head.model)}'`)
    }
    statistics = all.of(version)
    head.plan = plan
    head.statistics = statistics
    head.served = version
  }
  const { bytes, offsets } = tensorsOf(request, envelope, head, plan)
  const { idStart, idEnd } = envelope
  return { version, statistics, plan, request, idStart, idEnd, bytes, offsets, priority, deadlineMs, trace, saysFinal }
}

/** What a promise gives, or DEADLINE_EXCEEDED when it takes longer than the caller waits. */
function beforeDeadline<T>(promise: Promise<T>, deadlineMs: number, model: string): Promise<T> {
  if (deadlineMs === Number.POSITIVE_INFINITY) return promise
  return new Promise((resolve, reject) => {
    const delayMs = Math.min(Math.max(deadlineMs - Date.now(), 0), MAX_TIMER_MS)
    const timer = setTimeout(() => reject(refusal.deadline(model)), delayMs)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

function scan(request: Buffer): Envelope {
  let envelope: Envelope
  try {
    envelope = scanRequest(request)
  } catch (cause) {
    throw malformed(cause)
  }
  if (envelope.idEnd - envelope.idStart > MAX_ID_BYTES)
    throw invalid('id', `the id is longer than ${MAX_ID_BYTES} bytes`)
  // It goes back as it came: what is no text would make the answer unreadable.
  if (!isText(request, envelope.idStart, envelope.idEnd)) throw invalid('id', 'the id is not UTF-8')
  return envelope
}

function tensorsOf(
  request: Buffer,
  { raws }: Envelope,
  { model, request: head, typedInput }: KnownHead,
  plan: Plan,
): { readonly bytes: Buffer; readonly offsets: readonly number[] } {
  if (raws.length > 0) {
    if (typedInput < 0) return { bytes: request, offsets: checkRaw(request, raws, plan, model) }
    const name = plan.tensors[typedInput]?.name
    const text = `contents field must not be specified when using raw_input_contents for '${name}' for model '${model}'`
    throw invalid(`inputs[${typedInput}].contents`, text)
  }
  const pieces: Buffer[] = []
  for (const [index, tensor] of plan.tensors.entries()) {
    pieces[tensor.position] = packTyped(head.inputs[index]?.contents, tensor, index)
  }
  const bytes = Buffer.concat(pieces)
  const offsets = consecutive(pieces.map((piece) => piece.length))
  return { bytes, offsets: checkRaw(bytes, offsets, { ...plan, tensors: inGroupOrder(plan), isInOrder: true }, model) }
}

function inGroupOrder(plan: Plan): Plan['tensors'] {
  return [...plan.tensors].sort((left, right) => left.position - right.position)
}

function readParameters(request: Buffer, entries: readonly number[]): ReadonlyMap<string, ParameterValue> {
  const parameters = new Map<string, ParameterValue>()
  try {
    for (let index = 0; index < entries.length; index += 2) {
      const { key, value } = readParameter(request, entries[index] as number, entries[index + 1] as number)
      refuseReserved(key)
      if (value !== undefined) parameters.set(key, value)
    }
  } catch (cause) {
    throw cause instanceof Failure ? cause : malformed(cause)
  }
  return parameters
}

/** Names that begin so belong to the protocol's other server; of them only one asks for what is so here anyway. */
function refuseReserved(key: string): void {
  if (!key.startsWith(RESERVED_PREFIX) || key === FINAL_RESPONSE_ASKED) return
  const name = echo(key)
  throw invalid(
    `parameters.${name}`,
    `parameter '${name}' is reserved: names of parameters must not begin with 'triton_'`,
  )
}

/** The earlier of the call's deadline and the one that the request's `timeout` (microseconds) makes. */
function deadlineOf(callDeadlineMs: number, timeout: ParameterValue | undefined): number {
  if (timeout === undefined || timeout === 0) return callDeadlineMs
  if (typeof timeout === 'bigint' && timeout > 0n) return callDeadlineMs // more than 200 years
  if (typeof timeout !== 'number' || !(timeout > 0))
    throw invalid('parameters.timeout', 'timeout is not a number of microseconds')
  return Math.min(callDeadlineMs, Date.now() + timeout / 1000)
}

/** 1 is the most urgent, 0 and none leave it to the server. */
function priorityOf(priority: ParameterValue | undefined): number {
  if (priority === undefined) return 0
  if (typeof priority === 'number' && Number.isInteger(priority) && priority >= 0 && priority <= MAX_PRIORITY)
    return priority
  throw invalid('parameters.priority', `priority is not an integer from 0 to ${MAX_PRIORITY}`)
}

function textOf(value: ParameterValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}
