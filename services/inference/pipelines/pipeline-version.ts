/**
 * A version that is a pipeline: a graph of models and expressions that answers like one model.
 *
 * 1. Its models' queues, executors, batches and deadlines are those of any model: steps go through `predict`, so requests of
 *    the pipeline run together with all others for the same model.
 * 2. Work that was offered is answered or failed once; a step that fails fails its request alone, with the step's name.
 * 3. What it pins is loaded before it is ready, and held until it has answered its last request.
 */
import { type CheckedPipeline, readsOf, type TensorName, tensorText } from '@slipway/pipelines'
import { Code, Failure } from '@slipway/rpc'
import type { WorkBatch } from '../batcher.ts'
import type { BatchResult, OutputView } from '../executors/executor.ts'
import type { FindGroup } from '../plan.ts'
import { refusal } from '../refusals.ts'
import type { Servable, WorkCounts } from '../servable.ts'
import { describeSignature, type ModelSignature } from '../signature.ts'
import type { Work } from '../work-queue.ts'
import { ensembleOf } from './ensemble.ts'
import { ExpressionTurns } from './expression-turns.ts'
import { GroupTable } from './group-table.ts'
import { PipelineRun, type RunnablePipeline } from './pipeline-run.ts'
import { createStepTracing } from './step-tracing.ts'

/** Format and runtime as `ModelMetadata` names them. */
export const PIPELINE_PLATFORM = 'slipway_pipeline'

/** A model that a pipeline runs, and what is done with it when the pipeline ends. */
export interface PipelineModel {
  readonly served: Servable
  /** Ends a model of the pipeline's own, or releases one that is only held. */
  end(): Promise<void>
}

/** Hears of requests that a pipeline answered. */
export type PipelineBatchListener = (version: Servable, batch: WorkBatch, result: BatchResult) => void

/** A pipeline whose models are ready. */
export interface ReadyPipeline {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  readonly number: string
  readonly digest: string
  readonly sizeBytes: number
  readonly checked: CheckedPipeline
  /** By the steps' `model`. */
  readonly models: ReadonlyMap<string, PipelineModel>
  /** Rows of requests that may be under way. */
  readonly maxRows: number
  /** Hears of each request that was answered, as of a batch of its own. */
  readonly onBatch?: PipelineBatchListener | undefined
}

/** One scheduler for all pipelines of the process: they share one event loop. */
const turns = new ExpressionTurns()

/** See the top of this file. */
export class PipelineVersion implements Servable {
  readonly name: string
  readonly model: string
  readonly number: string
  readonly digest: string
  readonly sizeBytes: number
  readonly signature: ModelSignature
  readonly platform = PIPELINE_PLATFORM
  readonly ensemble: Servable['ensemble']
  readonly group: FindGroup
  lastUsedMs = Date.now()
  readonly #ready: ReadyPipeline
  readonly #runnable: RunnablePipeline
  readonly #tracing: ReturnType<typeof createStepTracing>
  readonly #outputs: ReadonlyMap<string, TensorName>
  readonly #counts = { batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0 }
  #rows = 0
  #requests = 0
  #isClosed = false
  #whenIdle: (() => void)[] = []

  constructor(ready: ReadyPipeline) {
    const { checked, models } = ready
    this.#ready = ready
    this.name = ready.name
    this.model = ready.model
    this.number = ready.number
    this.digest = ready.digest
    this.sizeBytes = ready.sizeBytes
    this.signature = describeSignature(
      checked.inputs,
      checked.outputs.map(({ spec }) => spec),
    )
    this.group = new GroupTable(this.signature).find
    this.ensemble = ensembleOf(checked, ready, new Map([...models].map(([key, { served }]) => [key, served])))
    this.#tracing = createStepTracing(ready)
    this.#outputs = new Map(checked.outputs.map(({ spec, tensor }) => [spec.name, tensor]))
    const read = [...this.#outputs.values(), ...checked.steps.flatMap(readsOf)]
    this.#runnable = {
      model: ready.model,
      steps: new Map(checked.steps.map((step) => [step.name, step])),
      reads: checked.reads,
      used: new Set(read.map(tensorText)),
      models: new Map([...models].map(([key, { served }]) => [key, served])),
      turns,
      traced: this.#tracing.step,
    }
  }

  get isQuarantined(): boolean {
    return [...this.#ready.models.values()].some(({ served }) => served.isQuarantined)
  }

  get memoryBytes(): number | undefined {
    const known = [...this.#ready.models.values()].map(({ served }) => served.memoryBytes ?? 0)
    return known.some((bytes) => bytes > 0) ? known.reduce((sum, bytes) => sum + bytes, 0) : undefined
  }

  get counts(): WorkCounts {
    return { ...this.#counts, queued: this.#requests, executedAfterDeadline: 0 }
  }

  /** Forgets what was counted so far: what it did to warm up is nobody's. */
  recount(): void {
    Object.assign(this.#counts, { batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0 })
  }

  offer(work: Work): void {
    const refused = this.#refuse(work)
    if (refused !== undefined) {
      this.#counts.shed++
      work.fail(refused)
      return
    }
    this.#rows += work.rows
    this.#requests++
    this.#run(work).finally(() => {
      this.#rows -= work.rows
      this.#requests--
      if (this.#requests === 0) for (const tell of this.#whenIdle.splice(0)) tell()
    })
  }

  async drain(): Promise<void> {
    await this.#idle()
    await this.close()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#ready.models.values()].map((model) => model.end()))
    await this.#idle()
  }

  #refuse(work: Work): Failure | undefined {
    const { model, maxRows } = this.#ready
    if (this.#isClosed) return refusal.stopping()
    if (this.#requests === 0 || this.#rows + work.rows <= maxRows) return undefined
    return refusal.queueFull(model, `${this.#rows} rows are under way`, RETRY_AFTER_MS)
  }

  /** Answers a request or fails it; never rejects. */
  async #run(work: Work): Promise<void> {
    const begunMs = performance.now()
    await this.#tracing
      .request('inference.pipeline', work.trace, async (trace) => {
        const run = new PipelineRun(this.#runnable, work, trace)
        for (const [index, { name, datatype, dims }] of work.group.inputs.entries()) {
          const bytes = work.bytes.subarray(work.offsets[2 * index], work.offsets[2 * index + 1])
          const shape = dims.map((size) => (size === -1 ? work.rows : size))
          run.tensors.set({ step: 'input', output: name }, { datatype, shape, bytes })
        }
        const wanted = work.group.outputs.flatMap((name) => this.#outputs.get(name) ?? [])
        try {
          await run.run(wanted)
          this.#answer(work, wanted, run)
        } catch (error) {
          this.#fail(work, Failure.from(error))
          throw error
        } finally {
          await run.settled()
        }
      })
      .then(() => this.#tell(work, begunMs))
      // Its caller was told.
      .catch(() => undefined)
  }

  #answer(work: Work, wanted: readonly TensorName[], run: PipelineRun): void {
    const outputs = wanted.map((tensor): OutputView => {
      const { shape: dims, bytes } = run.tensors.get(tensor)
      return { dims, bytes }
    })
    this.#counts.batches++
    this.#counts.rows += work.rows
    if (work.isCancelled) return
    const ends = outputs.map(({ bytes }) => bytes.length)
    work.answer(outputs, { starts: outputs.map(() => 0), ends, rows: undefined })
  }

  #tell(work: Work, dispatchedMs: number): void {
    const { group, rows } = work
    const batch = { group, members: [work], rows, dispatchedMs, reason: 'idle' as const, isBehind: false }
    const computeMicros = 1000 * (performance.now() - dispatchedMs)
    this.#ready.onBatch?.(this, { ...batch, notAfterMs: work.deadlineMs }, { outputs: [], computeMicros })
  }

  #fail(work: Work, failure: Failure): void {
    if (failure.code === Code.CANCELLED) this.#counts.cancelled++
    else if (failure.code === Code.DEADLINE_EXCEEDED) this.#counts.expired++
    work.fail(failure)
  }

  async #idle(): Promise<void> {
    if (this.#requests > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }
}

const RETRY_AFTER_MS = 100
