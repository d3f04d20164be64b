/** From the files of a version that is a pipeline to what answers its requests. */
import {
  type CheckedPipeline,
  checkPipeline,
  modelKey,
  PIPELINE_FILE,
  readPipeline,
  type Signature,
} from '@slipway/pipelines'
import type { ModelStep, Pipeline } from '@slipway/proto/slipway/inference/v1/pipeline'
import { Code, Failure } from '@slipway/rpc'
import { checkExample } from '../golden-example.ts'
import { predict } from '../local-predictions.ts'
import { openModel, readExample, sizeOf, type VersionFiles } from '../model-source.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { type RunOptions, ServedVersion, type VerifiedModel } from '../served-version.ts'
import { elements, tensorBytes } from '../signature.ts'
import { type PipelineBatchListener, type PipelineModel, PipelineVersion } from './pipeline-version.ts'

/** Loads a version if it is not there and keeps it until it is released. FAILED_PRECONDITION when it has another digest. */
export type HoldVersion = (
  name: string,
  digest: string,
) => Promise<{ readonly served: Servable; readonly release: () => void }>

/** What pipelines need from around them. */
export interface PipelineOptions {
  /** How the models in their own files are run. */
  readonly run: RunOptions
  /** How they come to the versions that they pin. */
  readonly hold: HoldVersion
  /** Hears of each request that a pipeline answered. */
  readonly onBatch?: PipelineBatchListener
}

/** Whether a version is a pipeline. */
export function isPipeline({ files }: Pick<VersionFiles, 'files'>): boolean {
  return files.some(({ path }) => path === PIPELINE_FILE)
}

/** Makes what starts versions of both kinds: pipelines, and models by themselves. */
export function createStarter(options: PipelineOptions): (version: VersionFiles) => Promise<Servable> {
  return async (version) =>
    isPipeline(version)
      ? await startPipeline(version, options)
      : await ServedVersion.start(await openModel(version), options.run)
}

/** Starts a pipeline and all its models. FAILED_PRECONDITION when it is not one that can be served. */
export async function startPipeline(version: VersionFiles, options: PipelineOptions): Promise<PipelineVersion> {
  const { name, model, number, digest, files } = version
  const pipeline = await servable(version, async () => readPipeline(await version.read(PIPELINE_FILE)))
  const steps = modelSteps(pipeline)
  const models = new Map<string, PipelineModel>()
  try {
    const opened = await openFiles(version, steps)
    await holdVersions(steps, options.hold, models)
    const signatures = new Map<string, Signature>([...opened].map(([key, { signature }]) => [key, signature]))
    for (const [key, { served }] of models) signatures.set(key, served.signature)
    const checked: CheckedPipeline = await servable(version, async () => checkPipeline(pipeline, signatures))
    for (const [key, verified] of opened) {
      const served = await ServedVersion.start(verified, options.run)
      models.set(key, { served, end: () => served.drain() })
    }
    const maxRows = (options.run.limitsOf?.(model) ?? options.run.limits).maxQueueRows
    const sizeBytes = sizeOf(files)
    const { onBatch } = options
    const started = new PipelineVersion({ name, model, number, digest, sizeBytes, checked, models, maxRows, onBatch })
    await warmUp(started)
    const example = await readExample(version)
    if (example !== undefined) await checkExample(started, example)
    started.recount()
    return started
  } catch (error) {
    await Promise.allSettled([...models.values()].map((each) => each.end()))
    throw error
  }
}

/**
 * Answers a few requests of one row of zeros, so that the first caller does not pay for what is done once. A pipeline that
 * refuses them is not refused for it: its tables may know no empty text.
 */
async function warmUp(version: PipelineVersion): Promise<void> {
  const inputs = version.signature.inputs.map(({ name, datatype, shape }) => {
    const dims = shape.map((size) => Math.max(size, 1))
    const bytes = tensorBytes(datatype, dims)
    return { name, datatype, shape: dims, sizeBytes: bytes < 0 ? 4 * elements(dims) : bytes }
  })
  if (inputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) > MAX_WARM_UP_BYTES) return
  for (let run = 0; run < WARM_UP_RUNS; run++) {
    const zeros = inputs.map(({ sizeBytes, ...input }) => ({ ...input, bytes: Buffer.alloc(sizeBytes) }))
    const deadlineMs = Date.now() + WARM_UP_TIMEOUT_MS
    await predict(version, { inputs: zeros, deadlineMs }).catch(() => undefined)
  }
}

const WARM_UP_RUNS = 3
const WARM_UP_TIMEOUT_MS = 10_000
const MAX_WARM_UP_BYTES = 16 * 1024 * 1024

function modelSteps({ steps }: Pipeline): readonly ModelStep[] {
  return steps.flatMap(({ kind }) => (kind.case === 'model' ? [kind.value] : []))
}

/** The models among the version's own files. */
async function openFiles(version: VersionFiles, steps: readonly ModelStep[]): Promise<Map<string, VerifiedModel>> {
  const opened = new Map<string, VerifiedModel>()
  for (const path of new Set(steps.map(({ source }) => (source.case === 'file' ? source.value : undefined)))) {
    const file = version.files.find((each) => each.path === path)
    if (path === undefined || file === undefined) continue
    const { name, model, number, digest } = version
    const verified = await openModel({
      name,
      model,
      number,
      digest,
      files: [{ ...file, path: 'model.onnx' }],
      read: () => version.read(path),
      layOut: () => version.layOut(),
    })
    // Told apart from the pipeline itself in errors and in what is measured.
    const step = path.replace(/^steps\/|\.onnx$/g, '')
    opened.set(path, { ...verified, name: `${version.name}/${step}`, model: `${version.model}/${step}` })
  }
  return opened
}

async function holdVersions(
  steps: readonly ModelStep[],
  hold: HoldVersion,
  models: Map<string, PipelineModel>,
): Promise<void> {
  for (const step of steps) {
    if (step.source.case !== 'version' || models.has(modelKey(step))) continue
    const { served, release } = await hold(step.source.value.name, step.source.value.digest)
    if (served.digest !== step.source.value.digest) {
      release()
      throw refusal.digestMismatch(step.source.value.name, step.source.value.digest, served.digest)
    }
    models.set(modelKey(step), { served, end: async () => release() })
  }
}

/** What is wrong with a pipeline is wrong with the version, not with the request that has it loaded. */
async function servable<T>({ model, number }: VersionFiles, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== Code.INVALID_ARGUMENT) throw error
    throw new Failure(
      Code.FAILED_PRECONDITION,
      'LOAD_FAILED',
      refusal.loadFailed(model, number, error.message).message,
      {
        violations: error.violations,
        cause: error,
      },
    )
  }
}
