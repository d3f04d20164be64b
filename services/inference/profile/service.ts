import { cpus } from 'node:os'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { EventBus } from '@slipway/events'
import type {
  ProfileService,
  ProfileVersionRequest,
  ProfileVersionResponseSchema,
} from '@slipway/proto/slipway/inference/v1/profile_service'
import type { ServingPointSchema, ServingProfileSchema } from '@slipway/proto/slipway/registry/v1/serving_profile'
import { Code, Failure, type Handlers } from '@slipway/rpc'
import { predict, type RawTensor } from '../local-predictions.ts'
import type { Servable } from '../servable.ts'
import { generateLoad } from './generated-load.ts'
import { recordedLoad } from './recorded-load.ts'
import { isPareto, type Objective, type Outcome, planSweep, recommend, type Setting, type Trial } from './sweep.ts'
import { trySetting } from './try-setting.ts'

/** Most trials of one profile. */
export const MAX_TRIALS = 1024

const DEFAULT_MEASURE_MS = 1000
const DEFAULT_RECORDED_REQUESTS = 1000

/** What the service needs from around it. */
export interface ProfileServiceOptions {
  /** Threads that models may keep busy at once. */
  readonly threads: number
  /** Starts a version under a setting, apart from the copy that answers callers. */
  readonly start: (name: string, setting: Setting) => Promise<Servable>
  /** Stores a profile on its version; undefined where versions come without a registry. */
  readonly store: ((name: string, digest: string, profile: Profile) => Promise<void>) | undefined
  /** Where recorded requests are; undefined without a bus. */
  readonly bus: EventBus | undefined
}

/** A profile as it is stored. */
export type Profile = MessageInitShape<typeof ServingProfileSchema>

type Progress = MessageInitShape<typeof ProfileVersionResponseSchema>

/** Makes what answers `slipway.inference.v1.ProfileService`. */
export function createProfileService(options: ProfileServiceOptions): Handlers<typeof ProfileService> {
  let isRunning = false
  return {
    async *profileVersion(request, { signal }) {
      if (isRunning) throw new Failure(Code.RESOURCE_EXHAUSTED, 'PROFILE_RUNS', 'another version is being profiled')
      isRunning = true
      try {
        yield* profile(options, request, signal)
      } finally {
        isRunning = false
      }
    },
  }
}

async function* profile(
  options: ProfileServiceOptions,
  request: ProfileVersionRequest,
  signal: AbortSignal,
): AsyncGenerator<Progress> {
  const trials = checkedTrials(request, options.threads)
  if (request.store && options.store === undefined)
    throw new Failure(
      Code.FAILED_PRECONDITION,
      'NO_REGISTRY',
      'there is no registry to store the profile in: ask for one that is not stored (--no-store)',
    )
  const measureMs = request.measureTime === undefined ? DEFAULT_MEASURE_MS : durationMs(request.measureTime)
  const outcomes: Outcome[] = []
  let load: Load | undefined
  let running: { readonly setting: Setting; readonly version: Servable } | undefined
  let digest = ''
  try {
    for (const trial of trials) {
      if (running?.setting !== trial.setting) {
        await running?.version.close()
        running = undefined
        running = { setting: trial.setting, version: await options.start(request.name, trial.setting) }
        digest = running.version.digest
      }
      load ??= await loadOf(options, request, running.version, signal)
      const outcome = await trySetting(running.version, { trial, load: load.requests, measureMs, signal })
      outcomes.push(outcome)
      yield { pointsDone: outcomes.length, pointsTotal: trials.length, point: pointOf(outcome, outcomes) }
    }
  } finally {
    await running?.version.close()
  }
  const found = profileOf(outcomes, request, options.threads, load?.description ?? '')
  if (request.store) await options.store?.(request.name, digest, found)
  yield { pointsDone: outcomes.length, pointsTotal: trials.length, profile: found }
}

function checkedTrials(request: ProfileVersionRequest, threads: number): Trial[] {
  const trials = planSweep(request, threads)
  if (trials.length === 0) {
    const description = `every setting needs more than the ${threads} threads that models may use`
    throw Failure.invalid('executors', description)
  }
  if (trials.length > MAX_TRIALS)
    throw Failure.invalid('executors', `${trials.length} combinations are more than ${MAX_TRIALS}`)
  return trials
}

interface Load {
  readonly requests: readonly (readonly RawTensor[])[]
  readonly description: string
}

async function loadOf(
  { bus }: ProfileServiceOptions,
  { load }: ProfileVersionRequest,
  version: Servable,
  signal: AbortSignal,
): Promise<Load> {
  if (load.case === 'recorded') {
    if (bus === undefined)
      throw new Failure(Code.FAILED_PRECONDITION, 'NO_BUS', 'this server reads no bus: there are no recorded requests')
    const { endpoint, maxRequests } = load.value
    const requests = await recordedLoad(bus, {
      endpoint,
      maxRequests: maxRequests || DEFAULT_RECORDED_REQUESTS,
      signal,
    })
    await checkLoad(version, requests, 'recorded')
    return { requests, description: `${requests.length} requests of ${endpoint}` }
  }
  const rows = load.value?.rows || 1
  const seed = load.value?.seed ?? 0n
  const requests = generateLoad(version.signature, { rows, dynamicSize: load.value?.dynamicSize || 1, seed })
  await checkLoad(version, requests, 'generated')
  return { requests, description: `generated, ${rows} ${rows === 1 ? 'row' : 'rows'} each, seed ${seed}` }
}

/** Whether the version answers a load at all: figures of refusals would be no figures. */
async function checkLoad(version: Servable, requests: Load['requests'], field: string): Promise<void> {
  try {
    await predict(version, { inputs: requests[0] ?? [] })
  } catch (error) {
    const { message } = Failure.from(error)
    throw Failure.invalid(field, `the version does not answer such requests: ${message}`)
  }
}

function profileOf(
  outcomes: readonly Outcome[],
  { objective }: ProfileVersionRequest,
  cores: number,
  load: string,
): Profile {
  const wanted: Objective = {
    p99Ms: objective?.p99Ms,
    rowsPerSecond: objective?.rowsPerSecond,
    memoryBytes: objective?.memoryBytes === undefined ? undefined : Number(objective.memoryBytes),
  }
  const recommended = recommend(outcomes, wanted)
  const processors = cpus()
  return {
    machine: `${processors.length} × ${processors[0]?.model.trim() ?? 'unknown'}, ${process.platform} ${process.arch}`,
    cores,
    load,
    time: timestampFromMs(Date.now()),
    ...(objective === undefined ? {} : { objective }),
    points: outcomes.map((outcome) => pointOf(outcome, outcomes)),
    ...(recommended === undefined ? {} : { recommended }),
  }
}

function pointOf(outcome: Outcome, all: readonly Outcome[]): MessageInitShape<typeof ServingPointSchema> {
  return {
    ...outcome,
    memoryBytes: BigInt(Math.round(outcome.memoryBytes)),
    failed: BigInt(outcome.failed),
    pareto: isPareto(outcome, all),
  }
}
