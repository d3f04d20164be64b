/**
 * The flights story: a model of three million real flights is registered, checked, deployed, fed with features, called,
 * logged, found drifting, retrained and replaced, while traffic goes on.
 */
import { join } from 'node:path'
import { type Addresses, connect, type Slipway } from '@slipway/client'
import type { EventBus } from '@slipway/events'
import {
  type Calendar,
  calendarOf,
  cleanDays,
  dayMicros,
  periodBefore,
  type TrainingPeriod,
  warmUpDays,
} from './calendar.ts'
import { championAlias, endpointName, modelName, monitorName } from './definitions.ts'
import { nextTrainingRequest, openEvents } from './events.ts'
import { defineFeatures, publishFeatures } from './features.ts'
import type { Progress } from './progress.ts'
import { createModel, type Registered, registerVersion } from './registration.ts'
import { type Replay, startReplay } from './replay.ts'
import { replayPorts } from './replay-ports.ts'
import { summarise } from './report.ts'
import { untilAnswered } from './retry.ts'
import { rollOut } from './rollout.ts'
import { brokenSteps, type RolloutStep, type Summary } from './summary.ts'
import { type TrainedModel, trainModel } from './training.ts'
import { makeTrainingSet } from './training-set.ts'
import { type DistanceUnit, openUpstream, type Upstream } from './upstream.ts'

const trainingRowsPerDay = 1_250
const predictionsPerDay = 1_450
const requestsPerStep = 600
const trainingRequestWithinMs = 60_000

/** What the story is played on. */
export interface StoryOptions {
  readonly addresses: Addresses
  readonly dataDir: string
  readonly kafka: string | undefined
  readonly fault: boolean
  readonly seed: number
  /** First day of the training weeks, `YYYY-MM-DD`. */
  readonly firstDay: string
  /** When the command was started, by `performance.now()`. */
  readonly startedMs: number
  readonly peakRssBytes: () => number
  readonly progress: Progress
  /** Ends the story early. */
  readonly signal: AbortSignal
}

/** What a played story leaves behind. */
export interface Played {
  readonly summary: Summary
  /** The steps that did not hold, in words. */
  readonly broken: readonly string[]
}

/** Everything that the parts of the story share. */
interface Stage {
  readonly options: StoryOptions
  readonly calendar: Calendar
  readonly clients: Slipway
  readonly upstream: Upstream
  readonly bus: EventBus
}

/** Plays the story; rejects when a step cannot be made at all, and when `signal` ends it. */
export async function playFlights(options: StoryOptions): Promise<Played> {
  const clients = connect({ addresses: options.addresses, actor: 'flights example' })
  const bus = openEvents(options)
  const upstream = await openUpstream()
  const ended = new Promise<never>((_, reject) => {
    const end = () => reject(new Error('the story was ended early'))
    if (options.signal.aborted) end()
    options.signal.addEventListener('abort', end, { once: true })
  })
  try {
    return await Promise.race([
      play({ options, calendar: calendarOf(options.firstDay), clients, upstream, bus }),
      ended,
    ])
  } finally {
    clients.close()
    await bus.close()
    upstream.close()
  }
}

async function play(stage: Stage): Promise<Played> {
  const { options, calendar, clients, bus } = stage
  const trainingRequest = await nextTrainingRequest(bus, modelName)
  const first = await deployFirstVersion(stage)
  const replay = replayWeeks(stage)
  await replay.reached(calendar.faultMicros)
  let second: Registered | undefined
  let steps: readonly RolloutStep[] = []
  if (options.fault) {
    options.progress.line('the upstream now sends kilometres instead of miles, and tells nobody')
    const request = await within(trainingRequest.received, trainingRequestWithinMs)
    if (request !== undefined) {
      options.progress.line(`training request ${request.trainingRequestId}: ${request.reason}`)
      second = await replaceVersion(stage, first, request.trainingRequestId)
      if (second.report.passed) steps = await roll(stage, replay, second)
    }
  } else await replay.reached(calendar.faultMicros + dayMicros)
  await replay.stop()
  await trainingRequest.stop()
  const summary = await summarise({
    clients,
    replayFromMicros: calendar.replayFromMicros,
    faultMicros: options.fault ? calendar.faultMicros : undefined,
    training: first.model.summary,
    registered: second === undefined ? [first.registered] : [first.registered, second],
    replay,
    steps,
    timings: () => ({
      firstPredictionSeconds: (replay.firstAnswerMs() - options.startedMs) / 1000,
      totalSeconds: (performance.now() - options.startedMs) / 1000,
      peakRssBytes: options.peakRssBytes(),
    }),
  })
  return { summary, broken: brokenSteps(summary, options.fault) }
}

async function deployFirstVersion(stage: Stage): Promise<{ model: TrainedModel; registered: Registered }> {
  const { options, calendar, clients, upstream } = stage
  const features = options.progress.stage('features')
  await untilAnswered(() => defineFeatures(clients.features), 60_000)
  const from = calendar.training.fromMicros - warmUpDays * dayMicros
  const show = (rows: number) => features.update(Math.min(rows / expectedRows, 0.99), `${rows} rows`)
  const rows = await publishFeatures(upstream, clients.features, from, calendar.replayFromMicros, show)
  features.end(`${rows} rows of ${upstreamViews} views`)

  const model = await train(stage, calendar.training, 'miles')
  await untilAnswered(() => createModel(clients.registry), 60_000)
  const registered = await register(stage, model, {})
  await untilAnswered(
    () =>
      clients.registry.setAlias({ name: championAlias, version: registered.version.name, reason: 'the first version' }),
    60_000,
  )
  const variants = [{ name: 'champion', target: championAlias, weightBasisPoints: 10_000 }]
  await untilAnswered(() => clients.routing.createEndpoint({ endpoint: { name: endpointName, variants } }), 60_000)
  await untilAnswered(
    () => clients.drift.createMonitor({ monitor: { name: monitorName, endpoint: endpointName } }),
    60_000,
  )
  return { model, registered }
}

/** For the bar only: about how many rows there are. */
const expectedRows = 150_000
const upstreamViews = 4

async function replaceVersion(stage: Stage, first: { registered: Registered }, trainingRequestId: string) {
  const period = periodBefore(stage.calendar.faultMicros)
  const model = await train(stage, period, 'kilometres')
  return await register(stage, model, { parentVersion: first.registered.version.name, trainingRequestId })
}

async function train(stage: Stage, period: TrainingPeriod, unit: DistanceUnit): Promise<TrainedModel> {
  const { options, clients, upstream } = stage
  const progress = options.progress.stage('training set')
  const query = {
    fromMicros: period.fromMicros,
    toMicros: period.toMicros,
    perDay: trainingRowsPerDay,
    seed: options.seed,
  }
  const set = await makeTrainingSet({
    upstream,
    store: clients.features,
    query,
    unit,
    directory: join(options.dataDir, 'trainer'),
    onProgress: (done, note) => progress.update(done, note),
  })
  progress.end(`${set.dataset.rowCount} rows, ${set.dataset.digest.slice(0, 19)}`)
  const fitting = options.progress.stage('training')
  const model = await trainModel({
    upstream,
    set,
    period,
    seed: options.seed,
    onProgress: (done) => fitting.update(done),
  })
  const { auc, baselineAuc } = model.summary
  fitting.end(`AUC ${auc.toFixed(3)} on the held-out week, base rate by hour and route ${baselineAuc.toFixed(3)}`)
  return model
}

async function register(
  stage: Stage,
  model: TrainedModel,
  origin: { parentVersion?: string; trainingRequestId?: string },
): Promise<Registered> {
  const gate = stage.options.progress.stage('gate')
  const registered = await registerVersion(
    stage.clients.registry,
    model,
    { ...origin, seed: stage.options.seed },
    (done, note) => gate.update(done, note),
  )
  gate.end(`${registered.version.name} ${registered.report.passed ? 'passed' : 'failed'}`)
  return registered
}

function replayWeeks(stage: Stage): Replay {
  const { options, calendar, clients, upstream } = stage
  const bar = options.progress.stage('replay')
  const shown = Number(cleanDays + 2n)
  return startReplay({
    upstream,
    ports: replayPorts({ clients, upstream, faultMicros: options.fault ? calendar.faultMicros : undefined }),
    fromMicros: calendar.replayFromMicros,
    perDay: predictionsPerDay,
    seed: options.seed,
    callers: 16,
    secondsPerDay: 4,
    onProgress: (replay) => {
      const days = Number(replay.nowMicros() - calendar.replayFromMicros) / Number(dayMicros)
      const { answered, failed } = replay.counts()
      const latency = `p50 ${replay.latency.quantileMs(0.5).toFixed(1)} ms, p99 ${replay.latency.quantileMs(0.99).toFixed(1)} ms`
      const note = `day ${Math.floor(days)}, ${answered} predictions, ${failed} failed, ${Math.round(replay.perSecond())}/s, ${latency}`
      bar.update(Math.min(days / shown, 0.99), note)
    },
  })
}

async function roll(stage: Stage, replay: Replay, second: Registered): Promise<RolloutStep[]> {
  return await rollOut({
    routing: stage.clients.routing,
    registry: stage.clients.registry,
    replay,
    candidate: second.version,
    weightsPercent: [5, 100],
    requestsPerStep,
    onStep: ({ weightPercent, requests, failed }) =>
      stage.options.progress.line(`rollout: ${weightPercent} % held for ${requests} requests, ${failed} failed`),
  })
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => resolve(undefined), timeoutMs)
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
