/**
 * What happened to the requests of each version, as `ModelStatistics` tells it.
 *
 * 1. A version is counted from the turn in which it is first ready until it is off the table; what it did to warm up is not.
 *    One that is let go for a while and loaded again goes on where it was: counts only ever grow.
 * 2. Requests are counted once, when they are answered or failed; stages and batches when a batch was answered. Nothing is
 *    allocated for either.
 */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ModelStatisticsResponseSchema } from '@slipway/proto/inference/grpc_service'
import type { WorkBatch } from './batcher.ts'
import type { BatchResult } from './executors/executor.ts'
import type { ModelQuestion } from './model-metadata.ts'
import type { ModelTable } from './model-table.ts'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'

/** Sizes of batches that are told apart for each version; larger ones are counted in the totals only. */
export const MAX_BATCH_SIZES = 1024

/** Counts of one version. */
export class VersionStatistics {
  readonly success = new Duration()
  readonly fail = new Duration()
  readonly queue = new Duration()
  readonly computeInput = new Duration()
  readonly computeInfer = new Duration()
  readonly computeOutput = new Duration()
  readonly batches = new Map<number, BatchStages>()
  /** When it last answered, in epoch milliseconds; 0 when it never did. */
  lastInferenceMs = 0
  rows = 0
  executions = 0
  /** Of the times that it was loaded before. */
  cacheHits = 0
  cacheMisses = 0

  /** A caller whose request came at `arrivedMs` was answered now, by `performance.now()`. */
  answered(arrivedMs: number): void {
    const nowMs = performance.now()
    this.success.add(nowMs - arrivedMs, 1)
    this.lastInferenceMs = performance.timeOrigin + nowMs
  }

  /** A caller whose request came at `arrivedMs` was told why not. */
  failed(arrivedMs: number): void {
    this.fail.add(performance.now() - arrivedMs, 1)
  }

  /** A batch was answered. */
  batch({ members, rows, dispatchedMs }: WorkBatch, result: BatchResult): void {
    const count = members.length
    const inputMs = (result.inputMicros ?? 0) / 1000
    const inferMs = result.computeMicros / 1000
    const outputMs = (result.outputMicros ?? 0) / 1000
    let queuedMs = ((result.waitMicros ?? 0) / 1000) * count
    for (const { arrivedMs } of members) queuedMs += dispatchedMs - arrivedMs
    this.queue.add(queuedMs, count)
    this.computeInput.add(inputMs * count, count)
    this.computeInfer.add(inferMs * count, count)
    this.computeOutput.add(outputMs * count, count)
    this.rows += rows
    this.executions++
    this.#stages(rows)?.add(inputMs, inferMs, outputMs)
  }

  #stages(rows: number): BatchStages | undefined {
    const known = this.batches.get(rows)
    if (known !== undefined || this.batches.size >= MAX_BATCH_SIZES) return known
    const fresh = new BatchStages()
    this.batches.set(rows, fresh)
    return fresh
  }
}

class Duration {
  count = 0
  totalMs = 0

  add(ms: number, count: number): void {
    this.totalMs += ms
    this.count += count
  }

  describe() {
    return { count: BigInt(this.count), ns: BigInt(Math.round(this.totalMs * 1e6)) }
  }
}

class BatchStages {
  readonly computeInput = new Duration()
  readonly computeInfer = new Duration()
  readonly computeOutput = new Duration()

  add(inputMs: number, inferMs: number, outputMs: number): void {
    this.computeInput.add(inputMs, 1)
    this.computeInfer.add(inferMs, 1)
    this.computeOutput.add(outputMs, 1)
  }
}

/** See the top of this file. */
export class Statistics {
  readonly #models: ModelTable
  readonly #versions = new Map<string, CountedVersion>()

  constructor(models: ModelTable) {
    this.#models = models
    for (const { model, version } of models) this.#follow(model, version)
    models.onChange((model, version) => version !== undefined && this.#follow(model, version))
  }

  /** The counts of a version; of one that is not on the table, counts that nobody sees. */
  of({ name }: Pick<Servable, 'name'>): VersionStatistics {
    return this.#versions.get(name)?.counted ?? new VersionStatistics()
  }

  /** A batch of a version was answered. */
  readonly onBatch = (
    { name, digest }: Pick<Servable, 'name' | 'digest'>,
    batch: WorkBatch,
    result: BatchResult,
  ): void => {
    const known = this.#versions.get(name)
    // Not on the table, or another one of its name: it warms up.
    if (known?.served?.digest === digest) known.counted.batch(batch, result)
  }

  /** Answers `ModelStatistics`: '' stands for all models, or all versions of one. Throws NOT_FOUND and the like. */
  describe({ name, version }: ModelQuestion): MessageInitShape<typeof ModelStatisticsResponseSchema> {
    if (name === '' && version !== '') throw refusal.unknownModel(name)
    const wanted = [...this.#versions.values()].filter(
      ({ model, number }) => (name === '' || model === name) && (version === '' || number === version),
    )
    // Nothing to tell of a model that was named: it is loaded when it is asked for, or the table knows why.
    if (wanted.length === 0 && name !== '' && !this.#models.isReady(name, version)) this.#models.resolve(name, version)
    const modelStats = wanted.map(describeVersion)
    return { modelStats: modelStats.sort(byModelAndNumber) }
  }

  #follow(model: string, version: string): void {
    const state = this.#models.get(model, version)
    const name = `models/${model}/versions/${version}`
    const known = this.#versions.get(name)
    if (state === undefined) this.#versions.delete(name)
    else if (state.kind === 'ready') {
      const { served } = state
      if (known?.served === served) return
      if (known !== undefined) keepCacheCounts(known)
      const isSame = known !== undefined && known.digest === served.digest
      const counted = isSame ? known.counted : new VersionStatistics()
      this.#versions.set(name, { model, number: version, digest: served.digest, counted, served })
    } else if (known !== undefined && state.kind !== 'unloading') keepCacheCounts(known)
  }
}

interface CountedVersion {
  readonly model: string
  readonly number: string
  readonly digest: string
  readonly counted: VersionStatistics
  /** What answers; undefined while it is let go. */
  served: Servable | undefined
}

/** What answered is let go; what it counted itself stays. */
function keepCacheCounts(version: CountedVersion): void {
  const { cacheHits = 0, cacheMisses = 0 } = version.served?.counts ?? {}
  version.counted.cacheHits += cacheHits
  version.counted.cacheMisses += cacheMisses
  version.served = undefined
}

function describeVersion({ model, number, counted, served }: CountedVersion) {
  const { cacheHits = 0, cacheMisses = 0 } = served?.counts ?? {}
  const memoryBytes = served?.memoryBytes
  return {
    name: model,
    version: number,
    lastInference: BigInt(Math.floor(counted.lastInferenceMs)),
    // What runs no batches of its own, a pipeline, is counted by its answers.
    inferenceCount: BigInt(counted.executions > 0 ? counted.rows : counted.success.count),
    executionCount: BigInt(counted.executions),
    inferenceStats: {
      success: counted.success.describe(),
      fail: counted.fail.describe(),
      queue: counted.queue.describe(),
      computeInput: counted.computeInput.describe(),
      computeInfer: counted.computeInfer.describe(),
      computeOutput: counted.computeOutput.describe(),
      cacheHit: { count: BigInt(counted.cacheHits + cacheHits) },
      cacheMiss: { count: BigInt(counted.cacheMisses + cacheMisses) },
    },
    batchStats: [...counted.batches]
      .sort(([left], [right]) => left - right)
      .map(([size, stages]) => ({
        batchSize: BigInt(size),
        computeInput: stages.computeInput.describe(),
        computeInfer: stages.computeInfer.describe(),
        computeOutput: stages.computeOutput.describe(),
      })),
    memoryUsage: memoryBytes === undefined ? [] : [{ type: 'CPU', byteSize: BigInt(Math.round(memoryBytes)) }],
  }
}

/** The order in which versions are listed. */
export function byModelAndNumber(
  left: { readonly name: string; readonly version: string },
  right: { readonly name: string; readonly version: string },
): number {
  return left.name < right.name ? -1 : left.name > right.name ? 1 : Number(left.version) - Number(right.version)
}
