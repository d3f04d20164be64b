/**
 * The gate: candidate and champion answer the same golden set, and the model's rules judge.
 *
 * 1. A report is bound to what was tested: it holds the digests of candidate, champion and golden set, and is stored only
 *    if the champion alias still points to that champion.
 * 2. A run that did not come to a report (cancelled, inference away, process killed) leaves the version as it was.
 * 3. A candidate that cannot be loaded or cannot answer has failed; a champion that cannot is an error of the run.
 */
import { create, toBinary } from '@bufbuild/protobuf'
import {
  type Gate,
  type GateReport,
  GateReportSchema,
  GateState,
  type GoldenSet,
  type ModelVersion,
} from '@slipway/proto/slipway/registry/v1/model'
import { type RunGateResponse, RunGateResponseSchema } from '@slipway/proto/slipway/registry/v1/registry_service'
import { timestampFromMicros } from '@slipway/resources'
import { Code, Failure } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import { attribute, meter, metric } from '@slipway/telemetry'
import { resolveAlias } from './aliases.ts'
import { checkGateRules, readGoldenSet, rowCount } from './golden-set.ts'
import { judge } from './judge.ts'
import type { Ledger } from './ledger.ts'
import { requireModel } from './models.ts'
import { parseVersionName, type VersionKey } from './names.ts'
import type { Scorer } from './scorer.ts'
import { recordVersion, requireVersion } from './versions.ts'

/** The alias whose version candidates are compared with when the gate names none. */
export const defaultChampionAlias = 'champion'

/** What the gate needs. */
export interface GatesOptions {
  readonly ledger: Ledger
  readonly blobs: BlobStore
  readonly scorer: Scorer
  readonly maxGoldenSetBytes: number
  /** Runs at once; more are refused. */
  readonly maxConcurrentRuns: number
}

interface Run {
  readonly key: VersionKey
  readonly candidate: ModelVersion
  readonly champion: ModelVersion | undefined
  readonly championAlias: string
  readonly gate: Gate
  readonly goldenSet: GoldenSet
}

interface Outcome {
  readonly scores: Float64Array
  /** Why there are no scores; undefined when there are. */
  readonly failure: Failure | undefined
}

/** Runs gates. */
export class Gates {
  readonly #options: GatesOptions
  readonly #duration = meter('slipway.registry').createHistogram(metric.registryGateDuration)
  #running = 0

  constructor(options: GatesOptions) {
    this.#options = options
  }

  /** Checks a gate before it is kept; INVALID_ARGUMENT with every problem. */
  async check(gate: Gate, field: string): Promise<void> {
    const at = { field: `${field}.golden_set_digest`, maxBytes: this.#options.maxGoldenSetBytes }
    const digest = gate.goldenSetDigest
    const goldenSet = digest === '' ? undefined : await readGoldenSet(this.#options.blobs, digest, at)
    const violations = checkGateRules(gate, goldenSet, field)
    if (violations.length === 0) return
    const message = violations.map((violation) => `${violation.field} ${violation.description}`).join('; ')
    throw new Failure(Code.INVALID_ARGUMENT, 'INVALID_GATE', message, { violations })
  }

  /** Runs the gate of a version; the last message carries the report, stored before it is sent. */
  async *run(name: string, actor: string, signal: AbortSignal): AsyncGenerator<RunGateResponse> {
    const { maxConcurrentRuns } = this.#options
    if (this.#running >= maxConcurrentRuns) {
      const message = `${maxConcurrentRuns} gates run already: try again`
      throw new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_GATE_RUNS', message, { retryAfterMs: 1000 })
    }
    this.#running += 1
    try {
      yield* this.#run(name, actor, signal)
    } catch (error) {
      // The caller's own end has a Failure for its reason.
      if (!signal.aborted || signal.reason instanceof Failure) throw error
      throw new Failure(Code.UNAVAILABLE, 'STOPPING', 'the registry stops: run the gate again', { cause: error })
    } finally {
      this.#running -= 1
    }
  }

  async *#run(name: string, actor: string, signal: AbortSignal): AsyncGenerator<RunGateResponse> {
    const startedMs = performance.now()
    yield progress(0, 'reading the golden set')
    const run = await this.#prepare(name)
    const candidate = yield* this.#answers(run, run.candidate, { from: 5, to: 50 }, signal)
    // The champion need not answer twice when it is what is being tested.
    const same = run.champion?.digest === run.candidate.digest
    const champion =
      run.champion === undefined || same || candidate.failure !== undefined
        ? undefined
        : yield* this.#answers(run, run.champion, { from: 50, to: 95 }, signal)
    if (champion?.failure !== undefined) throw championFailed(run, champion.failure)
    const answers = {
      candidate: candidate.scores,
      champion: same ? candidate.scores : champion?.scores,
      labels: run.goldenSet.labels,
    }
    const checks = judge(answers, run.gate)
    signal.throwIfAborted()
    const report = await this.#store(run, actor, {
      candidateDigest: run.candidate.digest,
      championDigest: run.champion?.digest ?? '',
      goldenSetDigest: run.gate.goldenSetDigest,
      rows: BigInt(rowCount(run.goldenSet)),
      checks,
      passed: checks.every((check) => check.passed),
      error: candidate.failure?.message ?? '',
    })
    const gateVerdict = report.passed ? 'passed' : 'failed'
    this.#duration.record((performance.now() - startedMs) / 1000, { [attribute.gateVerdict]: gateVerdict })
    yield create(RunGateResponseSchema, { percent: 100, stage: gateVerdict, report })
  }

  async #prepare(name: string): Promise<Run> {
    const { ledger, blobs, maxGoldenSetBytes } = this.#options
    const key = parseVersionName(name, 'name')
    const candidate = await requireVersion(ledger.database, key)
    const { gate } = await requireModel(ledger.database, key.modelId)
    if (gate === undefined || gate.goldenSetDigest === '') {
      const message = `models/${key.modelId} has no golden set: upload one and set the model's gate`
      throw new Failure(Code.FAILED_PRECONDITION, 'GATE_NOT_SET', message, { metadata: { name } })
    }
    const championAlias = gate.championAlias === '' ? defaultChampionAlias : gate.championAlias
    const number = await resolveAlias(ledger.database, { modelId: key.modelId, alias: championAlias })
    const champion =
      number === undefined ? undefined : await requireVersion(ledger.database, { modelId: key.modelId, number })
    const at = { field: 'gate.golden_set_digest', maxBytes: maxGoldenSetBytes }
    const goldenSet = await readGoldenSet(blobs, gate.goldenSetDigest, at)
    return { key, candidate, champion, championAlias, gate, goldenSet }
  }

  async *#answers(
    run: Run,
    version: ModelVersion,
    percent: { readonly from: number; readonly to: number },
    signal: AbortSignal,
  ): AsyncGenerator<RunGateResponse, Outcome> {
    const { scorer } = this.#options
    const rows = rowCount(run.goldenSet)
    yield progress(percent.from, `loading ${version.name}`)
    try {
      await scorer.load(version, signal)
      const scoring = scorer.score(version, run.goldenSet, signal)
      for (;;) {
        const step = await scoring.next()
        if (step.done === true) return { scores: step.value, failure: undefined }
        const share = step.value / rows
        yield progress(
          percent.from + (percent.to - percent.from) * share,
          `${version.name} answers ${step.value}/${rows}`,
        )
      }
    } catch (error) {
      const failure = Failure.from(error)
      if (signal.aborted || !isOwnFault(failure)) throw error
      return { scores: new Float64Array(rows).fill(Number.NaN), failure }
    }
  }

  async #store(run: Run, actor: string, found: Omit<GateReport, 'time' | '$typeName'>): Promise<GateReport> {
    const { modelId, number } = run.key
    return await this.#options.ledger.change(actor, async (change) => {
      const champion = await resolveAlias(change.sql, { modelId, alias: run.championAlias })
      const tested = run.champion && parseVersionName(run.champion.name, 'champion').number
      if (champion !== tested) {
        const message = `${run.championAlias} moved while the gate ran: run it again`
        throw new Failure(Code.ABORTED, 'CHAMPION_MOVED', message, { metadata: { name: run.candidate.name } })
      }
      const report = create(GateReportSchema, { ...found, time: timestampFromMicros(change.timeMicros) })
      const message = toBinary(GateReportSchema, report)
      const row = { revision: change.revision, model_id: modelId, number, message }
      await change.sql.insertInto('gate_reports').values(row).execute()
      await change.sql
        .updateTable('versions')
        .set({ gate_state: report.passed ? GateState.PASSED : GateState.FAILED, gate_report: message })
        .where('model_id', '=', modelId)
        .where('number', '=', number)
        .execute()
      await recordVersion(change, run.key)
      return report
    })
  }
}

/** Whether a failure says something about the version, and not about the way to it. */
function isOwnFault(failure: Failure): boolean {
  const faults: readonly number[] = [
    Code.INVALID_ARGUMENT,
    Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE,
    Code.INTERNAL,
    Code.DATA_LOSS,
  ]
  return faults.includes(failure.code)
}

function championFailed(run: Run, failure: Failure): Failure {
  const name = run.champion?.name ?? ''
  const message = `the champion ${name} does not answer the golden set: ${failure.message}`
  const options = { metadata: { name, reason: failure.reason }, cause: failure }
  return new Failure(Code.FAILED_PRECONDITION, 'CHAMPION_DOES_NOT_ANSWER', message, options)
}

function progress(percent: number, stage: string): RunGateResponse {
  return create(RunGateResponseSchema, { percent: Math.floor(percent), stage })
}
