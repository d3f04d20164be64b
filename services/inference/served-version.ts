/** A version that answers: its verified model in executors, its queue, and what was learned about the requests it gets. */
import type { Datatype } from '@slipway/onnx'
import type { Failure } from '@slipway/rpc'
import { answerBatch } from './answer.ts'
import { Batcher, type BatchLimits, type WorkBatch } from './batcher.ts'
import type { BatchResult, StartExecutor } from './executors/executor.ts'
import type { GroupTensor } from './executors/layout.ts'
import { checkExample, type GoldenExample } from './golden-example.ts'
import { Lane } from './lane.ts'
import type { FindGroup } from './plan.ts'
import { refusal } from './refusals.ts'
import type { RestartPolicy } from './restart-policy.ts'
import type { Servable, WorkCounts } from './servable.ts'
import type { ModelSignature } from './signature.ts'
import type { ThreadBudget } from './thread-budget.ts'
import { warmUp } from './warm-up.ts'
import type { Group, Work } from './work-queue.ts'

const MAX_GROUPS = 1024
const PLATFORM = 'onnxruntime_onnx'

/** How versions are run. */
export interface RunOptions {
  readonly limits: BatchLimits
  /** The limits of one model, where they differ. */
  readonly limitsOf?: (model: string) => BatchLimits
  readonly budget: ThreadBudget
  readonly startExecutor: StartExecutor
  readonly executorsPerVersion: number
  readonly intraOpThreads: number
  readonly restartPolicy: RestartPolicy
  /** Hears of each batch that was answered. */
  readonly onBatch?: (version: ServedVersion, batch: WorkBatch, result: BatchResult) => void
  /** Hears of each request that was failed. */
  readonly onFailed?: (version: ServedVersion, work: Work, failure: Failure) => void
  /** Hears when an executor died. */
  readonly onDeath?: (version: ServedVersion, reason: string, quarantined: boolean) => void
  /** Hears when an executor was replaced because of the memory that it held. */
  readonly onReplaced?: (version: ServedVersion, reason: string) => void
}

/** A version whose files were verified. */
export interface VerifiedModel {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  /** The version's number in decimal digits. */
  readonly number: string
  readonly digest: string
  readonly sizeBytes: number
  readonly signature: ModelSignature
  /** Reads the model again, verified again. */
  readonly read: () => Promise<Uint8Array | string>
  /** What it was registered with, to be answered before callers get it. */
  readonly example?: GoldenExample
}

/** See the top of this file. */
export class ServedVersion implements Servable {
  readonly name: string
  readonly model: string
  readonly number: string
  readonly digest: string
  readonly sizeBytes: number
  readonly signature: ModelSignature
  readonly platform = PLATFORM
  readonly batcher: Batcher
  /** When it was last asked for, by `Date.now()`. */
  lastUsedMs: number
  readonly #lanes: readonly Lane[]
  readonly #groups = new Map<string, Group>()
  #nextGroupId = 1

  private constructor(verified: VerifiedModel, options: RunOptions, nowMs: number) {
    this.name = verified.name
    this.model = verified.model
    this.number = verified.number
    this.digest = verified.digest
    this.sizeBytes = verified.sizeBytes
    this.signature = verified.signature
    this.lastUsedMs = nowMs
    this.batcher = new Batcher({
      model: verified.model,
      version: verified.number,
      limits: options.limitsOf?.(verified.model) ?? options.limits,
      budget: options.budget,
      threadsPerRun: options.intraOpThreads,
      answer: (batch, result) => {
        if (!answerBatch(batch, result)) return false
        options.onBatch?.(this, batch, result)
        return true
      },
      onFailed: options.onFailed && ((work, failure) => options.onFailed?.(this, work, failure)),
    })
    this.#lanes = Array.from(
      { length: options.executorsPerVersion },
      () =>
        new Lane({
          name: verified.model,
          start: options.startExecutor,
          model: verified.read,
          intraOpThreads: options.intraOpThreads,
          batcher: this.batcher,
          policy: options.restartPolicy,
          onDeath: (reason, quarantined) => {
            options.onDeath?.(this, reason, quarantined)
            if (this.isQuarantined) this.batcher.failAll(() => refusal.quarantined(this.model, this.number))
          },
          onReplaced: (reason) => options.onReplaced?.(this, reason),
        }),
    )
  }

  /** Starts the executors and warms them up. Rejects with the runtime's text when it refuses the model. */
  static async start(verified: VerifiedModel, options: RunOptions): Promise<ServedVersion> {
    const version = new ServedVersion(verified, options, Date.now())
    try {
      await Promise.all(version.#lanes.map((lane) => lane.open()))
      await warmUp(version)
      if (verified.example !== undefined) await checkExample(version, verified.example)
    } catch (error) {
      await version.close()
      throw error
    }
    return version
  }

  /** True when none of its executors will be started again. */
  get isQuarantined(): boolean {
    return this.#lanes.every((lane) => lane.isQuarantined)
  }

  /** The group of requests with these inputs and outputs. */
  readonly group: FindGroup = (inputs, outputs, batchable) => {
    const key = JSON.stringify([inputs.map((input: GroupTensor) => input.dims), outputs, batchable])
    const known = this.#groups.get(key)
    if (known !== undefined) return known
    if (this.#groups.size >= MAX_GROUPS) this.#groups.clear()
    const datatypeOf = (name: string): Datatype =>
      this.signature.outputs.find((output) => output.name === name)?.datatype ?? 'BYTES'
    const group = { id: this.#nextGroupId++, inputs, outputs, batchable, outputDatatypes: outputs.map(datatypeOf) }
    this.#groups.set(key, group)
    return group
  }

  /** Bytes of memory that its executors hold. */
  get memoryBytes(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.memoryBytes, 0)
  }

  get counts(): WorkCounts {
    return this.batcher.counts
  }

  offer(work: Work): void {
    this.batcher.offer(work)
  }

  /** Answers what it has taken, then ends. */
  async drain(): Promise<void> {
    await this.batcher.idle()
    await this.close()
  }

  /** Ends at once; what waits is failed. */
  async close(): Promise<void> {
    this.batcher.failAll(refusal.stopping)
    await Promise.all(this.#lanes.map((lane) => lane.close()))
  }
}
