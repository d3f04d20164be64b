/** `ModelInfer` and `ModelStreamInfer` in bytes: from a request to its place in a version's queue. */

import { Failure, type RawStream, type RawUnaryCall } from '@slipway/rpc'
import { consecutive } from './bytes.ts'
import { serveStream } from './infer-stream.ts'
import { type KnownHead, KnownHeads, type PlannedHead, type ReadRequest } from './known-heads.ts'
import type { ModelTable } from './model-table.ts'
import { traceOf } from './observer.ts'
import { type Plan, planRequest } from './plan.ts'
import { type PlannedRequest, type RequestOptions, UnaryPrediction } from './prediction.ts'
import { checkRaw } from './raw-tensors.ts'
import { echo, invalid, malformed, refusal } from './refusals.ts'
import type { Servable } from './servable.ts'
import type { Statistics } from './statistics.ts'
import { packTyped } from './typed-tensors.ts'
import { type Envelope, type ParameterValue, readParameter } from './wire.ts'

const MAX_TIMER_MS = 2 ** 31 - 1
const RESERVED_PREFIX = 'triton_'
/** Asks that answers say whether they are a request's last. */
const FINAL_RESPONSE_ASKED = 'triton_enable_empty_final_response'
const MAX_PRIORITY = 2 ** 31 - 1
const NO_OPTIONS: RequestOptions = { priority: 0, timeout: undefined, traceParent: undefined, saysFinal: false }

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
  readonly heads: KnownHeads
}

/** Makes the handlers. */
export function createInference(options: InferenceOptions): Inference {
  const planner: Planner = { maxRequestRows: Number.POSITIVE_INFINITY, ...options, heads: new KnownHeads() }
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

function planOne(planner: Planner, request: Buffer, callDeadlineMs: number): PlannedRequest | Promise<PlannedRequest> {
  const read = planner.heads.read(request)
  const { parameters } = read.envelope
  const options = parameters.length === 0 ? NO_OPTIONS : readOptions(request, parameters)
  const deadlineMs = deadlineOf(callDeadlineMs, options.timeout)
  const { model, version } = read.head
  const served = planner.models.acquire(model, version)
  if (!(served instanceof Promise)) return planFor(planner, served, request, read, options, deadlineMs)
  return beforeDeadline(served, deadlineMs, model).then((loaded) =>
    planFor(planner, loaded, request, read, options, deadlineMs),
  )
}

/** A request that is refused for what it is counts as a failed one of the version that it was for. */
function planFor(
  planner: Planner,
  version: Servable,
  request: Buffer,
  { envelope, head }: ReadRequest,
  options: RequestOptions,
  deadlineMs: number,
): PlannedRequest {
  try {
    const { plan, statistics } = planOf(planner, version, head)
    const { bytes, offsets } = tensorsOf(request, envelope, head, plan)
    const trace = traceOf(options.traceParent)
    return { version, statistics, plan, request, envelope, bytes, offsets, options, deadlineMs, trace }
  } catch (error) {
    planner.statistics.of(version).failed(performance.now())
    throw error
  }
}

/** The plan of a head for a version, made when it is not the version that answered the head before. */
function planOf({ statistics, maxRequestRows }: Planner, version: Servable, head: KnownHead): PlannedHead {
  const { known } = head
  if (known?.version === version) return known
  const plan = planRequest(head.request, version.signature, version.group)
  if (plan.rows > maxRequestRows)
    throw invalid('inputs', `inference request batch-size must be <= ${maxRequestRows} for '${echo(head.model)}'`)
  head.known = { version, plan, statistics: statistics.of(version) }
  return head.known
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

function readOptions(request: Buffer, entries: readonly number[]): RequestOptions {
  const parameters = readParameters(request, entries)
  const traceParent = parameters.get('traceparent')
  return {
    priority: priorityOf(parameters.get('priority')),
    timeout: parameters.get('timeout'),
    traceParent: typeof traceParent === 'string' ? traceParent : undefined,
    saysFinal: parameters.get(FINAL_RESPONSE_ASKED) === true,
  }
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
