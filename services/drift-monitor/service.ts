/** Answers DriftService. */
import { clone } from '@bufbuild/protobuf'
import type { DriftService } from '@slipway/proto/slipway/drift/v1/drift_service'
import { type Incident, IncidentSchema, IncidentState } from '@slipway/proto/slipway/drift/v1/monitor'
import { page, pageSizeOf, parsePageToken, timestampFromMicros } from '@slipway/resources'
import { Code, Failure, type Handlers } from '@slipway/rpc'
import type { Kysely } from 'kysely'
import type { Baselines } from './baselines.ts'
import { baselinesOf } from './consumers.ts'
import { incidentOf, readIncident, writeIncident } from './incident-store.ts'
import { resolved } from './incidents.ts'
import type { Monitors } from './monitors.ts'
import type { Reports } from './report.ts'
import type { Schema } from './schema.ts'
import { hourOf, microsOfTimestamp } from './time.ts'
import type { Watchers } from './watchers.ts'

/** What the service stands on. */
export interface DriftServiceOptions {
  readonly database: Kysely<Schema>
  readonly monitors: Monitors
  readonly baselines: Baselines
  readonly reports: Reports
  readonly watchers: Watchers
  readonly nowMicros: () => bigint
  /** Called after the transaction in which incidents changed. */
  readonly onIncidents: (incidents: readonly Incident[]) => void
  /** Ends watches when the service stops. */
  readonly stopping: AbortSignal
}

/** Creates the handlers. */
export function createDriftService(options: DriftServiceOptions): Handlers<typeof DriftService> {
  const { monitors, database } = options
  return {
    createMonitor: async ({ monitor }) => await monitors.create(required(monitor)),
    getMonitor: async ({ name }) => await monitors.get(name),
    updateMonitor: async ({ monitor, updateMask }) => await monitors.update(required(monitor), updateMask),
    deleteMonitor: async ({ name, etag }) => {
      await monitors.delete(name, etag)
      return {}
    },
    listMonitors: async ({ pageSize, pageToken }) => {
      const size = pageSizeOf(pageSize)
      const after = parsePageToken('monitors', pageToken, '')
      const { items, nextPageToken } = page('monitors', await monitors.list(after ?? '', size + 1), size, (m) => m.name)
      return { monitors: items, nextPageToken }
    },
    getReport: async ({ name, modelVersion, windowEnd }) => {
      const row = await monitors.row(name)
      const baselines = await baselinesOf(options, name)
      const endHour = windowEnd === undefined ? undefined : hourOf(microsOfTimestamp(windowEnd))
      return await options.reports.report({ row, baselines, modelVersion, endHour })
    },
    getIncident: async ({ name }) => (await readIncident(database, name)) ?? incidentNotFound(name),
    listIncidents: async ({ parent, pageSize, pageToken }) => {
      const size = pageSizeOf(pageSize)
      const before = parsePageToken(parent, pageToken, 0)
      const rows = await listIncidents(options, parent, before, size + 1)
      const { items, nextPageToken } = page(parent, rows, size, ({ number }) => number)
      return { incidents: items.map(incidentOf), nextPageToken }
    },
    acknowledgeIncident: async ({ name, note }) =>
      await changeIncident(options, name, (incident) => ({
        ...clone(IncidentSchema, incident),
        state: IncidentState.ACKNOWLEDGED,
        note,
        updateTime: timestampFromMicros(options.nowMicros()),
      })),
    resolveIncident: async ({ name, note }) =>
      await changeIncident(options, name, (incident) => resolved(incident, note, options.nowMicros())),
    watchIncidents: ({ parent }, { signal }) => watchIncidents(options, parent, signal),
  }
}

const ALL_MONITORS = 'monitors/-'

/** Open incidents first; what changes while they are read comes after, so nothing is missed. */
async function* watchIncidents(options: DriftServiceOptions, parent: string, signal: AbortSignal) {
  const isOwn = (incident: Incident) => parent === ALL_MONITORS || incident.name.startsWith(`${parent}/`)
  if (parent !== ALL_MONITORS) await options.monitors.row(parent)
  const changes = options.watchers.watch(signal, options.stopping)
  // Asking for the first change is what starts the watch: before the open incidents are read.
  let next = changes.next()
  next.catch(() => {})
  try {
    const open = await options.database.selectFrom('incidents').selectAll().where('open', '=', 1).execute()
    for (const incident of open.map(incidentOf).filter(isOwn)) yield { incident }
    for (let change = await next; change.done !== true; change = await next) {
      if (change.value === undefined) yield {}
      else if (isOwn(change.value)) yield { incident: change.value }
      next = changes.next()
      next.catch(() => {})
    }
  } finally {
    await changes.return(undefined)
  }
}

async function listIncidents(options: DriftServiceOptions, parent: string, before: number | undefined, limit: number) {
  if (parent !== ALL_MONITORS) await options.monitors.row(parent)
  return await options.database
    .selectFrom('incidents')
    .select(['message', 'number'])
    .$if(parent !== ALL_MONITORS, (query) => query.where('monitor', '=', parent))
    .$if(before !== undefined, (query) => query.where('number', '<', before ?? 0))
    .orderBy('number', 'desc')
    .limit(limit)
    .execute()
}

async function changeIncident(
  options: DriftServiceOptions,
  name: string,
  change: (incident: Incident) => Incident,
): Promise<Incident> {
  const changed = await options.database.transaction().execute(async (transaction) => {
    const incident = (await readIncident(transaction, name)) ?? incidentNotFound(name)
    if (incident.state === IncidentState.RESOLVED) {
      throw new Failure(Code.FAILED_PRECONDITION, 'INCIDENT_RESOLVED', `${name} is over`)
    }
    const next = change(incident)
    await writeIncident(transaction, next, incident.state)
    return next
  })
  options.onIncidents([changed])
  return changed
}

function incidentNotFound(name: string): never {
  throw new Failure(Code.NOT_FOUND, 'INCIDENT_NOT_FOUND', `there is no ${name}`)
}

function required<T>(message: T | undefined): T {
  if (message === undefined) throw Failure.invalid('monitor', 'must be set')
  return message
}
