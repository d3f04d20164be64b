/** Incidents as they are kept, and the events that each change of one causes; written in the caller's transaction. */
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { type EventRecord, encodeEvent, topics } from '@slipway/events'
import { type Incident, IncidentSchema, IncidentState } from '@slipway/proto/slipway/drift/v1/monitor'
import { timestampFromMicros } from '@slipway/resources'
import { meter, metric } from '@slipway/telemetry'
import type { Kysely, Selectable, Transaction } from 'kysely'
import type { Baseline } from './baseline.ts'
import type { IncidentStep, OpenIncident } from './incidents.ts'
import type { Schema } from './schema.ts'

const openIncidents = meter('slipway.drift-monitor').createObservableGauge(metric.driftIncidentsOpen)

/** An open incident with the digest it is about. */
export interface StoredOpenIncident extends OpenIncident {
  readonly digest: string
}

/** The incidents of a monitor that are not resolved. */
export async function readOpenIncidents(
  transaction: Transaction<Schema>,
  monitor: string,
): Promise<StoredOpenIncident[]> {
  const query = transaction.selectFrom('incidents').selectAll().where('monitor', '=', monitor).where('open', '=', 1)
  return (await query.orderBy('number').execute()).map((row) => ({
    incident: incidentOf(row),
    calmSinceHour: row.calm_since_hour ?? undefined,
    digest: row.digest,
  }))
}

/** Writes a step, its event, and for a new incident the request for a training. */
export async function writeStep(
  transaction: Transaction<Schema>,
  monitor: string,
  step: IncidentStep,
  context: { baseline: Baseline | undefined; requestTraining: boolean; nowMicros: bigint },
): Promise<Incident> {
  const { incident, previousState } = step
  const isNew = previousState === IncidentState.UNSPECIFIED
  if (isNew && context.requestTraining) await requestTraining(transaction, incident, context)
  if (isNew) await insertIncident(transaction, monitor, incident)
  else await updateIncident(transaction, incident, step.calmSinceHour ?? null)
  if (!step.silent) await enqueue(transaction, encodeEvent(topics.incidents, { incident, previousState }))
  return incident
}

/** Writes an incident that a person changed. */
export async function writeIncident(
  transaction: Transaction<Schema>,
  incident: Incident,
  previousState: IncidentState,
): Promise<void> {
  await updateIncident(transaction, incident)
  await enqueue(transaction, encodeEvent(topics.incidents, { incident, previousState }))
}

/** Reads an incident by name. */
export async function readIncident(database: Kysely<Schema>, name: string): Promise<Incident | undefined> {
  const row = await database.selectFrom('incidents').selectAll().where('name', '=', name).executeTakeFirst()
  return row === undefined ? undefined : incidentOf(row)
}

/** Measures how many incidents are open; the result ends the measuring. */
export function observeOpenIncidents(database: Kysely<Schema>): () => void {
  const count = async (result: { observe(value: number): void }) => {
    const query = database.selectFrom('incidents').select(({ fn }) => fn.countAll<number>().as('open'))
    result.observe((await query.where('open', '=', 1).executeTakeFirstOrThrow()).open)
  }
  openIncidents.addCallback(count)
  return () => openIncidents.removeCallback(count)
}

/** An incident from its row. */
export function incidentOf(row: Pick<Selectable<Schema['incidents']>, 'message'>): Incident {
  return fromBinary(IncidentSchema, row.message)
}

async function insertIncident(transaction: Transaction<Schema>, monitor: string, incident: Incident): Promise<void> {
  const { last } = await transaction
    .selectFrom('incidents')
    .select(({ fn }) => fn.max('number').as('last'))
    .executeTakeFirstOrThrow()
  await transaction
    .insertInto('incidents')
    .values({
      name: incident.name,
      monitor,
      digest: incident.digest,
      number: (last ?? 0) + 1,
      open: 1,
      calm_since_hour: null,
      message: toBinary(IncidentSchema, incident),
    })
    .execute()
}

async function updateIncident(
  transaction: Transaction<Schema>,
  incident: Incident,
  calmSinceHour?: number | null,
): Promise<void> {
  await transaction
    .updateTable('incidents')
    .set({
      open: incident.state === IncidentState.RESOLVED ? 0 : 1,
      message: toBinary(IncidentSchema, incident),
      ...(calmSinceHour === undefined ? {} : { calm_since_hour: calmSinceHour }),
    })
    .where('name', '=', incident.name)
    .execute()
}

async function requestTraining(
  transaction: Transaction<Schema>,
  incident: Incident,
  context: { baseline: Baseline | undefined; nowMicros: bigint },
): Promise<void> {
  const [, monitor = '', , id = ''] = incident.name.split('/')
  incident.trainingRequestId = `${monitor}-${id}`
  const event = encodeEvent(topics.trainingRequests, {
    trainingRequestId: incident.trainingRequestId,
    model: incident.modelVersion.split('/').slice(0, 2).join('/'),
    modelVersion: incident.modelVersion,
    reason: `${incident.features.join(', ')} of ${incident.endpoint} no longer look as they did in training`,
    incident: incident.name,
    features: incident.features,
    datasetDigest: context.baseline?.datasetDigest ?? '',
    time: timestampFromMicros(context.nowMicros),
  })
  await enqueue(transaction, event)
}

async function enqueue(transaction: Transaction<Schema>, record: EventRecord): Promise<void> {
  const { topic, key, value, headers } = record
  await transaction
    .insertInto('outbox')
    .values({ topic, key, value, headers: JSON.stringify(headers) } as Schema['outbox'])
    .execute()
}
