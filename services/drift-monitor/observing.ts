/** Takes the looks that are due after rows were counted, in the same transaction: counts and verdicts never part. */
import type { Incident } from '@slipway/proto/slipway/drift/v1/monitor'
import { attribute, meter, metric } from '@slipway/telemetry'
import type { Selectable, Transaction } from 'kysely'
import { sql } from 'kysely'
import { assess, distributionOf, type VersionAssessment, type VersionPanes } from './assess.ts'
import type { Baseline } from './baseline.ts'
import { readArrivals } from './counting.ts'
import { decodeCounts } from './counts.ts'
import { readOpenIncidents, writeStep } from './incident-store.ts'
import { type Findings, nextIncidents } from './incidents.ts'
import { dueLooks, isReached, watermarkHour } from './looks.ts'
import { monitorOf } from './monitors.ts'
import { type Policy, readPolicy } from './policy.ts'
import type { Schema } from './schema.ts'
import { HOUR_MICROS } from './time.ts'

const instruments = meter('slipway.drift-monitor')
const windowsJudged = instruments.createCounter(metric.driftWindowsJudged)
const effects = instruments.createGauge(metric.driftEffect)

/** Baselines by digest: resolved beforehand, since a transaction asks nobody. */
export type KnownBaselines = ReadonlyMap<string, Baseline>

/** Around a look. */
export interface ObservingContext {
  readonly baselines: KnownBaselines
  readonly nowMicros: bigint
  readonly retentionHours: number
}

/** Judges what became due; `touched` are the hours that got new rows. Gives the incidents that changed. */
export async function observe(
  transaction: Transaction<Schema>,
  row: Selectable<Schema['monitors']>,
  touched: ReadonlySet<number>,
  context: ObservingContext,
): Promise<Incident[]> {
  const monitor = monitorOf(row)
  if (monitor.policy === undefined || touched.size === 0) return []
  const policy = readPolicy(monitor.policy)
  const watermark = watermarkHour(await readArrivals(transaction, row.monitor))
  const lastLook = row.last_look_hour ?? undefined
  const amended = lastLook === undefined ? [] : amendedLooks(touched, lastLook, policy)
  for (const endHour of amended) await amend(transaction, row.monitor, endHour)
  const firstHour = lastLook === undefined ? await readFirstHour(transaction, row.monitor) : lastLook
  const due = dueLooks(lastLook, watermark, firstHour, policy.lookHours)
  const isSettled = lastLook !== undefined && watermark !== undefined && isReached(lastLook, watermark)
  const again = due.length === 0 && isSettled && amended.includes(lastLook) ? [lastLook] : []
  const changed: Incident[] = []
  for (const endHour of [...again, ...due]) {
    changed.push(...(await look(transaction, row, policy, endHour, context)))
  }
  const newest = due.at(-1)
  if (newest !== undefined) {
    await transaction
      .updateTable('monitors')
      .set({ last_look_hour: newest })
      .where('monitor', '=', row.monitor)
      .execute()
    await purge(transaction, row.monitor, newest, context.retentionHours)
  }
  return changed
}

/** The panes of a window, by version. */
export async function readVersionPanes(
  transaction: Transaction<Schema>,
  monitor: string,
  range: { startHour: number; endHour: number },
  baselines: KnownBaselines,
): Promise<VersionPanes[]> {
  const rows = await transaction
    .selectFrom('panes')
    .selectAll()
    .where('monitor', '=', monitor)
    .where('hour', '>=', range.startHour)
    .where('hour', '<', range.endHour)
    .orderBy('digest')
    .orderBy('hour')
    .execute()
  const byDigest = Map.groupBy(rows, ({ digest }) => digest)
  return [...byDigest].flatMap(([digest, panes]): VersionPanes[] => {
    const baseline = baselines.get(digest)
    if (baseline === undefined) return []
    return [
      {
        baseline,
        panes: panes.map((pane) => ({
          hour: pane.hour,
          samplingRate: pane.sampling_rate,
          rows: pane.rows,
          counts: decodeCounts(pane.counts),
        })),
      },
    ]
  })
}

/** First hour of which rows are kept. */
export async function readFirstHour(transaction: Transaction<Schema>, monitor: string): Promise<number> {
  const query = transaction.selectFrom('panes').select(({ fn }) => fn.min('hour').as('hour'))
  return (await query.where('monitor', '=', monitor).executeTakeFirst())?.hour ?? Number.POSITIVE_INFINITY
}

/** How often a window was amended. */
export async function readRevision(
  transaction: Transaction<Schema>,
  monitor: string,
  endHour: number,
): Promise<number> {
  const query = transaction.selectFrom('amendments').select('revision').where('monitor', '=', monitor)
  return (await query.where('end_hour', '=', endHour).executeTakeFirst())?.revision ?? 0
}

async function look(
  transaction: Transaction<Schema>,
  row: Selectable<Schema['monitors']>,
  policy: Policy,
  endHour: number,
  context: ObservingContext,
): Promise<Incident[]> {
  const startHour = endHour - policy.windowHours
  const versions = await readVersionPanes(transaction, row.monitor, { startHour, endHour }, context.baselines)
  const firstHour = await readFirstHour(transaction, row.monitor)
  const revision = await readRevision(transaction, row.monitor, endHour)
  const assessments = assess({ versions, firstHour, endHour, revision, policy })
  record(row.endpoint, assessments)
  return await settle(transaction, row, policy, endHour, assessments, context)
}

/** Takes the findings to the incidents, those of versions that are gone included. */
async function settle(
  transaction: Transaction<Schema>,
  row: Selectable<Schema['monitors']>,
  policy: Policy,
  endHour: number,
  assessments: readonly VersionAssessment[],
  context: ObservingContext,
): Promise<Incident[]> {
  const { requestTraining } = policy
  const { nowMicros } = context
  const open = await readOpenIncidents(transaction, row.monitor)
  const shared = {
    monitor: row.monitor,
    endpoint: row.endpoint,
    endHour,
    windowHours: policy.windowHours,
    falseIncidentsPerMonth: policy.falseIncidentsPerMonth,
    nowMicros,
  }
  const changed: Incident[] = []
  const present = new Set(assessments.map(({ baseline }) => baseline.digest))
  for (const assessment of assessments) {
    const { baseline } = assessment
    const own = open.filter(({ digest }) => digest === baseline.digest)
    for (const step of nextIncidents(own, { ...shared, ...findingsOf(assessment) })) {
      const incident = await writeStep(transaction, row.monitor, step, { baseline, requestTraining, nowMicros })
      if (!step.silent) changed.push(incident)
    }
  }
  for (const gone of open.filter(({ digest }) => assessments.length > 0 && !present.has(digest))) {
    const { modelVersion, digest } = gone.incident
    const findings = { ...shared, modelVersion, digest, verdicts: [], distributionOf: unseen, answering: false }
    for (const step of nextIncidents([gone], findings)) {
      changed.push(await writeStep(transaction, row.monitor, step, { baseline: undefined, requestTraining, nowMicros }))
    }
  }
  return changed
}

type VersionFindings = Pick<Findings, 'modelVersion' | 'digest' | 'verdicts' | 'distributionOf' | 'answering'>

function findingsOf({ baseline, verdicts, answering, window }: VersionAssessment): VersionFindings {
  const distribution = (name: string) => {
    const column = baseline.columns.find((each) => each.name === name)
    return column === undefined ? unseen(name) : distributionOf(column, window.counts)
  }
  const { modelVersion, digest } = baseline
  return { modelVersion, digest, verdicts, answering, distributionOf: distribution }
}

function unseen(name: string): never {
  throw new Error(`no verdict was given on ${name}`)
}

function amendedLooks(touched: ReadonlySet<number>, lastLook: number, policy: Policy): number[] {
  const ends = new Set<number>()
  for (const hour of touched) {
    const first = (Math.floor(hour / policy.lookHours) + 1) * policy.lookHours
    for (let end = first; end <= Math.min(lastLook, hour + policy.windowHours); end += policy.lookHours) ends.add(end)
  }
  return [...ends].sort((a, b) => a - b)
}

async function amend(transaction: Transaction<Schema>, monitor: string, endHour: number): Promise<void> {
  await transaction
    .insertInto('amendments')
    .values({ monitor, end_hour: endHour, revision: 1 })
    .onConflict((conflict) => conflict.columns(['monitor', 'end_hour']).doUpdateSet({ revision: sql`revision + 1` }))
    .execute()
}

/** Forgets what is older than retention, and arrivals that no watermark needs. */
async function purge(
  transaction: Transaction<Schema>,
  monitor: string,
  lookHour: number,
  retentionHours: number,
): Promise<void> {
  const oldestHour = lookHour - retentionHours
  const arrivalsFrom = lookHour - ARRIVALS_HOURS
  await transaction.deleteFrom('arrivals').where('monitor', '=', monitor).where('hour', '<', arrivalsFrom).execute()
  const oldestMicros = Number(BigInt(oldestHour) * HOUR_MICROS)
  await transaction.deleteFrom('panes').where('monitor', '=', monitor).where('hour', '<', oldestHour).execute()
  await transaction.deleteFrom('amendments').where('monitor', '=', monitor).where('end_hour', '<', oldestHour).execute()
  const predictions = transaction.deleteFrom('predictions').where('monitor', '=', monitor)
  await predictions.where('event_micros', '<', oldestMicros).execute()
  await transaction
    .deleteFrom('labels')
    .where('monitor', '=', monitor)
    .where('time_micros', '<', oldestMicros)
    .execute()
}

const ARRIVALS_HOURS = 72

function record(endpoint: string, assessments: readonly VersionAssessment[]): void {
  for (const { baseline, verdicts } of assessments) {
    for (const { name, state, effect } of verdicts) {
      const attributes = { [attribute.endpoint]: endpoint, [attribute.modelDigest]: baseline.digest }
      windowsJudged.add(1, { ...attributes, [attribute.verdict]: state })
      effects.record(effect, { ...attributes, [attribute.feature]: name })
    }
  }
}
