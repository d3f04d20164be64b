/** Reads the bus: logged predictions and feedback, each batch in one transaction with what follows from it. */
import {
  consume,
  type Event,
  type EventBus,
  type HandleContext,
  Poison,
  type Subscription,
  topics,
} from '@slipway/events'
import type { Incident } from '@slipway/proto/slipway/drift/v1/monitor'
import type {
  FeedbackRecordedSchema,
  PredictionLogged,
  PredictionLoggedSchema,
} from '@slipway/proto/slipway/events/v1/prediction'
import { attribute, logger, meter, metric } from '@slipway/telemetry'
import type { Kysely } from 'kysely'
import type { Baseline } from './baseline.ts'
import type { Baselines } from './baselines.ts'
import { countPredictions, eventMicrosOf } from './counting.ts'
import { type Label, recordLabels } from './labels.ts'
import { limits } from './limits.ts'
import { observe } from './observing.ts'
import { pause } from './pause.ts'
import type { Schema } from './schema.ts'
import { microsOfTimestamp } from './time.ts'

const log = logger('slipway.drift-monitor')
const counted = meter('slipway.drift-monitor').createCounter(metric.driftPredictionsCounted)

type PredictionEvents = readonly Event<typeof PredictionLoggedSchema>[]
type FeedbackEvents = readonly Event<typeof FeedbackRecordedSchema>[]

/** What consuming needs. */
export interface ConsumersOptions {
  readonly bus: EventBus
  readonly database: Kysely<Schema>
  readonly baselines: Baselines
  readonly group: string
  readonly retentionHours: number
  readonly nowMicros: () => bigint
  /** Called after the transaction in which incidents changed. */
  readonly onIncidents: (incidents: readonly Incident[]) => void
}

/** Running consumers. */
export interface Consumers {
  /** Waits until everything that was published before the call has been counted. */
  caughtUp(): Promise<void>
  /** Ends after the batches on their way. */
  stop(): Promise<void>
}

/** Starts both consumers in the background; a bus that is away is waited for. */
export function startConsumers(options: ConsumersOptions): Consumers {
  const { bus, group } = options
  const stopping = new AbortController()
  const running: Subscription[] = []
  const keep = async (subscribe: () => Promise<Subscription>) => {
    const subscription = await subscribed(stopping.signal, subscribe)
    if (subscription === undefined) return
    running.push(subscription)
    if (stopping.signal.aborted) await subscription.stop()
  }
  const started = Promise.all([
    keep(async () => {
      const handle = async (events: PredictionEvents, { signal }: HandleContext) => {
        await onPredictions(options, events)
        await linger(events.length, signal)
      }
      return await consume(bus, topics.predictions, { group, handle })
    }),
    keep(async () => {
      const handle = async (events: FeedbackEvents, { signal }: HandleContext) => {
        await onFeedback(options, events)
        await linger(events.length, signal)
      }
      return await consume(bus, topics.feedback, { group, handle })
    }),
  ])
  return {
    caughtUp: async () => {
      await started
      for (const subscription of running) await subscription.caughtUp()
    },
    // What still waits for a bus that is away ends when the bus is closed.
    stop: async () => {
      stopping.abort()
      await Promise.all(running.map((subscription) => subscription.stop()))
    },
  }
}

/** Lets a trickle gather, so that it costs a few commits a second and not one a record. */
async function linger(records: number, signal: AbortSignal): Promise<void> {
  if (records < limits.lingerBelowRecords) await pause(limits.lingerMs, signal)
}

async function subscribed(
  signal: AbortSignal,
  subscribe: () => Promise<Subscription>,
): Promise<Subscription | undefined> {
  while (!signal.aborted) {
    try {
      return await subscribe()
    } catch (error) {
      if (signal.aborted) break
      log.warn('the event bus cannot be read yet', { error })
      await pause(limits.subscribeRetryMs, signal)
    }
  }
  return undefined
}

/** Counts a batch of logged predictions, and looks when a look is due. */
export async function onPredictions(options: ConsumersOptions, events: PredictionEvents): Promise<void> {
  for (const event of events) checkPrediction(event, options.nowMicros())
  const byEndpoint = Map.groupBy(events, ({ message }) => message.endpoint)
  for (const [endpoint, members] of byEndpoint) {
    const logged = members.map(({ message, record }) => ({ prediction: message, partition: record.partition }))
    const baselines = await resolveBaselines(
      options,
      endpoint,
      members.map(({ message }) => message),
    )
    if (baselines === undefined) continue
    const incidents = await options.database.transaction().execute(async (transaction) => {
      const query = transaction.selectFrom('monitors').selectAll().where('endpoint', '=', endpoint)
      const row = await query.executeTakeFirst()
      if (row === undefined) return []
      const { monitor } = row
      const oldestHour = (row.last_look_hour ?? Number.NEGATIVE_INFINITY) - options.retentionHours
      const touched = await countPredictions(transaction, { monitor, logged, baselines, oldestHour })
      const { retentionHours } = options
      return await observe(transaction, row, touched, { baselines, nowMicros: options.nowMicros(), retentionHours })
    })
    counted.add(members.length, { [attribute.endpoint]: endpoint })
    if (incidents.length > 0) options.onIncidents(incidents)
  }
}

/** Joins a batch of labels. Rewards are for whoever allots traffic, not for the monitor. */
export async function onFeedback(options: ConsumersOptions, events: FeedbackEvents): Promise<void> {
  const labels = events.flatMap(({ message, record }) => {
    if (message.outcome.case !== 'label') return []
    const { predictionId, feedbackId, endpoint, eventTime } = message
    const label = message.outcome.value
    if (predictionId === '' || !Number.isFinite(label)) {
      throw new Poison('feedback needs a prediction id and a finite label', { record })
    }
    const timeMicros = eventTime === undefined ? record.timeMicros : microsOfTimestamp(eventTime)
    return [{ endpoint, label: { predictionId, feedbackId, label, timeMicros } }]
  })
  if (labels.length === 0) return
  await options.database.transaction().execute(async (transaction) => {
    const rows = await transaction.selectFrom('monitors').select(['monitor', 'endpoint']).execute()
    const monitorOf = new Map(rows.map(({ monitor, endpoint }) => [endpoint, monitor]))
    const byMonitor = new Map<string, Label[]>()
    for (const { endpoint, label } of labels) {
      const monitor = monitorOf.get(endpoint)
      if (monitor === undefined) continue
      byMonitor.set(monitor, [...(byMonitor.get(monitor) ?? []), label])
    }
    for (const [monitor, own] of byMonitor) await recordLabels(transaction, monitor, own)
  })
}

/** Baselines of the batch and of everything counted; undefined when nobody watches the endpoint. */
async function resolveBaselines(
  options: ConsumersOptions,
  endpoint: string,
  predictions: readonly PredictionLogged[],
): Promise<Map<string, Baseline> | undefined> {
  const query = options.database.selectFrom('monitors').select('monitor').where('endpoint', '=', endpoint)
  const row = await query.executeTakeFirst()
  return row === undefined ? undefined : await baselinesOf(options, row.monitor, predictions)
}

/** Baselines of all versions whose counts are kept for a monitor, and of those that `also` answered. */
export async function baselinesOf(
  options: Pick<ConsumersOptions, 'database' | 'baselines'>,
  monitor: string,
  also: readonly PredictionLogged[] = [],
): Promise<Map<string, Baseline>> {
  const versions = await options.database
    .selectFrom('versions')
    .select(['digest', 'model_version'])
    .where('monitor', '=', monitor)
    .where('digest', 'in', ({ selectFrom }) => selectFrom('panes').select('digest').where('monitor', '=', monitor))
    .execute()
  const names = new Map(versions.map((version) => [version.digest, version.model_version]))
  for (const { digest, modelVersion } of also) names.set(digest, modelVersion)
  const resolved = new Map<string, Baseline>()
  for (const [digest, name] of names) resolved.set(digest, await options.baselines.get(digest, name))
  return resolved
}

function checkPrediction({ message, record }: Event<typeof PredictionLoggedSchema>, nowMicros: bigint): void {
  if (message.predictionId === '') throw new Poison('a logged prediction needs an id', { record })
  const eventMicros = eventMicrosOf(message)
  if (eventMicros <= 0n) throw new Poison('a logged prediction needs a time', { record })
  if (eventMicros > nowMicros + limits.futureMicros) throw new Poison('the event time is in the future', { record })
}
