/** `slipway.inference.v1.ExplainService`: from a request to the rows, the background and the features that are explained. */

import type { MessageInitShape } from '@bufbuild/protobuf'
import { FeatureValueError, featureTensors, type RowValue } from '@slipway/models'
import type { Value } from '@slipway/proto/slipway/features/v1/value'
import {
  AttributionMethod,
  Baseline,
  type ExplainRequest,
  type ExplainResponseSchema,
  ExplainService,
  type FeatureRows,
} from '@slipway/proto/slipway/inference/v1/explain_service'
import { type CallContext, Code, Failure, type Implementation, implement } from '@slipway/rpc'
import { attribute, meter, metric } from '@slipway/telemetry'
import type { ModelTable } from '../model-table.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import {
  backgroundOf,
  MAX_BACKGROUND_ROWS,
  type Reference,
  type ReferenceSource,
  References,
  requestOf,
} from './baseline.ts'
import { DEFAULT_MAX_EVALUATIONS, explainRows } from './explainer.ts'
import { groupPlayers, playersOf } from './players.ts'
import { areAlike, type RowTable, readTable } from './row-table.ts'
import type { ExplainSettings } from './settings.ts'
import { chooseTarget } from './target.ts'

const BUSY_RETRY_MS = 1000
const meters = meter('slipway.inference')
const explainedRows = meters.createCounter(metric.inferenceExplainedRows)
const askedRows = meters.createCounter(metric.inferenceExplainEvaluations)

/** What explanations need from around them. */
export interface ExplainOptions {
  readonly models: Pick<ModelTable, 'acquire'>
  readonly source: ReferenceSource
  readonly settings: ExplainSettings
}

/** The room: its service, and how its work ends. */
export interface Explain {
  readonly implementations: readonly Implementation[]
  /** Nothing to begin: explanations wait for somebody who asks. */
  start(): void
  /** Fails what is being explained. */
  stop(): Promise<void>
}

/** Makes the service. */
export function createExplain({ models, source, settings }: ExplainOptions): Explain {
  const references = new References(source)
  const stopping = new AbortController()
  const running = new Set<Promise<unknown>>()
  const explain = async (request: ExplainRequest, context: CallContext) => {
    if (stopping.signal.aborted) throw refusal.stopping()
    if (running.size >= settings.maxExplainCalls) throw busy(settings.maxExplainCalls)
    const signal = AbortSignal.any([context.signal, stopping.signal])
    const deadlineMs = Number.isFinite(context.deadlineMs) ? context.deadlineMs : Date.now() + settings.explainTimeoutMs
    const work = answer({ request, models, references, settings, signal, deadlineMs })
    running.add(work)
    try {
      return await work
    } finally {
      running.delete(work)
    }
  }
  return {
    implementations: [implement(ExplainService, { explain })],
    start: () => {},
    stop: async () => {
      stopping.abort(refusal.stopping())
      await Promise.allSettled(running)
    },
  }
}

interface Call {
  readonly request: ExplainRequest
  readonly models: Pick<ModelTable, 'acquire'>
  readonly references: References
  readonly settings: ExplainSettings
  readonly signal: AbortSignal
  readonly deadlineMs: number
}

async function answer(call: Call): Promise<MessageInitShape<typeof ExplainResponseSchema>> {
  const { request, models, references, settings, signal, deadlineMs } = call
  const served = await untilAborted(models.acquire(request.model, request.version), signal)
  const reference = await untilAborted(references.get(served), signal)
  const table = rowsOf(request, served, reference, settings.maxExplainedRows)
  const background = request.background
    ? backgroundOf(Baseline.REQUEST, request.background, served)
    : await untilAborted(reference.background(), signal)
  if (!areAlike(table, background.table)) throw otherShape(served, request.background !== undefined)
  const options = request.options
  const target = chooseTarget(request.output, served.signature, reference.outputs)
  const players = groupPlayers(playersOf(table.inputs, reference.features), options?.groups ?? [])
  const { explainBatchRows: batchRows, explainBatchesInFlight: batchesInFlight } = settings
  const explained = await explainRows({
    table,
    background,
    players,
    evaluate: { served, target, batchRows, batchesInFlight, deadlineMs, signal },
    maxEvaluations: Number(options?.maxEvaluations || DEFAULT_MAX_EVALUATIONS),
    maxBackgroundRows: options?.backgroundRows || MAX_BACKGROUND_ROWS,
    seed: options?.seed ?? 0n,
    targetStandardError: options?.targetStandardError,
  })
  for (const { method, evaluations } of explained.explanations) {
    explainedRows.add(1, { [attribute.outcome]: method === AttributionMethod.EXACT ? 'exact' : 'sampled' })
    askedRows.add(Number(evaluations))
  }
  return {
    ...explained,
    explanations: [...explained.explanations],
    modelVersion: served.name,
    digest: served.digest,
    output: target.name,
    features: players.map(({ name }) => name),
  }
}

function rowsOf({ rows }: ExplainRequest, served: Servable, reference: Reference, maxRows: number): RowTable {
  const table =
    rows.case === 'tensors'
      ? readTable(rows.value, served)
      : rows.case === 'features'
        ? readTable(requestOf(tensorsOf(rows.value, served, reference)), served)
        : undefined
  if (table === undefined || table.rows === 0) throw Failure.invalid('rows', 'there is nothing to explain')
  if (table.rows > maxRows) throw Failure.invalid('rows', `${table.rows} rows are more than ${maxRows}`)
  return table
}

function tensorsOf({ rows }: FeatureRows, { name, signature }: Servable, { features }: Reference) {
  if (features.length === 0) {
    const message = `${name} has no feature bindings: send tensors`
    throw new Failure(Code.FAILED_PRECONDITION, 'NO_FEATURE_BINDINGS', message)
  }
  const known = new Set(features.map(({ feature }) => feature))
  const plain = rows.map(({ values }, row) => {
    const entries = Object.entries(values).map(([feature, value]): [string, RowValue] => {
      const field = `features.rows[${row}].values["${feature.slice(0, 128)}"]`
      if (!known.has(feature)) throw Failure.invalid(field, 'the version has no such feature')
      return [feature, plainValue(value, field)]
    })
    return Object.fromEntries(entries)
  })
  const inputs = signature.inputs.map((input) => ({ ...input, shape: input.shape.map(BigInt) }))
  try {
    return featureTensors(inputs, features, plain)
  } catch (error) {
    if (error instanceof FeatureValueError)
      throw Failure.invalid(`features.rows[${error.row}].values["${error.feature}"]`, error.message)
    if (error instanceof RangeError) throw new Failure(Code.FAILED_PRECONDITION, 'NO_FEATURE_BINDINGS', error.message)
    throw error
  }
}

function plainValue({ kind }: Value, field: string): RowValue {
  if (kind.case === undefined) return null
  if (kind.case === 'bytesValue' || kind.case === 'timestampValue')
    throw Failure.invalid(field, 'must be a number, a text or true or false')
  return kind.value
}

/** What a promise gives, unless the caller goes first. */
function untilAborted<T>(value: T | Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason instanceof Failure ? signal.reason : refusal.cancelled())
    if (signal.aborted) return stop()
    signal.addEventListener('abort', stop, { once: true })
    Promise.resolve(value)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', stop))
  })
}

function busy(maxCalls: number): Failure {
  const message = `${maxCalls} explanations are worked on already`
  return new Failure(Code.RESOURCE_EXHAUSTED, 'EXPLAIN_BUSY', message, { retryAfterMs: BUSY_RETRY_MS })
}

function otherShape({ name }: Servable, isFromRequest: boolean): Failure {
  const message = `the background's rows have another shape than the rows to explain`
  if (isFromRequest) return Failure.invalid('background', message)
  return new Failure(Code.FAILED_PRECONDITION, 'BAD_BASELINE', `${name} cannot be explained: ${message}`)
}
