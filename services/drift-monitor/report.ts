/** Puts a report together: the same judgement as a look takes, over what is counted now. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  FeatureReportSchema,
  ReportSchema,
  VersionReportSchema,
} from '@slipway/proto/slipway/drift/v1/drift_service'
import { aucRoc, brierScore, logLoss, type Scored } from '@slipway/stats'
import type { Kysely, Selectable, Transaction } from 'kysely'
import { assess, distributionOf, type VersionAssessment } from './assess.ts'
import type { Baseline } from './baseline.ts'
import { readArrivals } from './counting.ts'
import { limits } from './limits.ts'
import { watermarkHour } from './looks.ts'
import { monitorOf } from './monitors.ts'
import { readFirstHour, readRevision, readVersionPanes } from './observing.ts'
import { readPolicy } from './policy.ts'
import type { Schema } from './schema.ts'
import { timestampOfHour } from './time.ts'

/** What a report is wanted of. */
export interface ReportOptions {
  readonly row: Selectable<Schema['monitors']>
  readonly baselines: ReadonlyMap<string, Baseline>
  /** Only this version, by name; empty: all. */
  readonly modelVersion: string
  /** End of the window; undefined: the newest look's. */
  readonly endHour: number | undefined
}

type ReportInit = MessageInitShape<typeof ReportSchema>
type VersionInit = MessageInitShape<typeof VersionReportSchema>
type PerformanceInit = NonNullable<VersionInit['performance']>

/** Reads counts, labels and verdicts in one transaction, so that the numbers of a report belong together. */
export class Reports {
  readonly #database: Kysely<Schema>
  /** Performance by monitor and digest, until another label is joined. */
  readonly #performance = new Map<string, { key: string; value: PerformanceInit }>()

  constructor(database: Kysely<Schema>) {
    this.#database = database
  }

  /** The report of a monitor. */
  async report(options: ReportOptions): Promise<ReportInit> {
    return await this.#database
      .transaction()
      .setAccessMode('read only')
      .execute(async (transaction) => await this.#read(transaction, options))
  }

  async #read(transaction: Transaction<Schema>, options: ReportOptions): Promise<ReportInit> {
    const { row, baselines } = options
    const monitor = monitorOf(row)
    const policy = readPolicy(monitor.policy ?? missingPolicy())
    const watermark = watermarkHour(await readArrivals(transaction, row.monitor))
    const endHour = options.endHour ?? row.last_look_hour ?? (watermark ?? 0) + 1
    const range = { startHour: endHour - policy.windowHours, endHour }
    const assessments = assess({
      versions: await readVersionPanes(transaction, row.monitor, range, baselines),
      firstHour: await readFirstHour(transaction, row.monitor),
      endHour,
      revision: await readRevision(transaction, row.monitor, endHour),
      policy,
    })
    const seen = await transaction.selectFrom('versions').selectAll().where('monitor', '=', row.monitor).execute()
    const wanted = seen.filter(
      (version) => options.modelVersion === '' || version.model_version === options.modelVersion,
    )
    const versions: VersionInit[] = []
    for (const version of wanted.sort((a, b) => (a.model_version < b.model_version ? -1 : 1))) {
      const assessment = assessments.find(({ baseline }) => baseline.digest === version.digest)
      versions.push({
        modelVersion: version.model_version,
        digest: version.digest,
        predictions: BigInt(version.predictions),
        features: assessment === undefined ? [] : featureReports(assessment),
        performance: await this.#performanceOf(transaction, version),
        problem: baselines.get(version.digest)?.problem ?? '',
      })
    }
    return {
      monitor,
      versions,
      ...(watermark === undefined ? {} : { watermark: timestampOfHour(watermark) }),
      predictions: BigInt(row.predictions),
      tooLate: BigInt(row.too_late),
      labelsReceived: BigInt(row.labels_received),
      labelsJoined: BigInt(row.labels_joined),
    }
  }

  async #performanceOf(transaction: Transaction<Schema>, version: Selectable<Schema['versions']>) {
    const name = `${version.monitor} ${version.digest}`
    const key = `${version.label_revision} ${version.predictions}`
    const known = this.#performance.get(name)
    if (known?.key === key) return known.value
    const value = await performance(transaction, version)
    if (this.#performance.size >= limits.performanceEntries) this.#performance.clear()
    this.#performance.set(name, { key, value })
    return value
  }
}

function featureReports({
  baseline,
  verdicts,
  window,
}: VersionAssessment): MessageInitShape<typeof FeatureReportSchema>[] {
  return verdicts.flatMap((verdict) => {
    const column = baseline.columns.find(({ name, kind }) => name === verdict.name && kind === verdict.kind)
    if (column === undefined) return []
    const { cells, referenceCounts, currentCounts } = distributionOf(column, window.counts)
    return [{ verdict, cells, referenceCounts, currentCounts }]
  })
}

/** Performance over the labelled predictions within retention, the newest up to a limit. */
async function performance(
  transaction: Transaction<Schema>,
  version: Selectable<Schema['versions']>,
): Promise<PerformanceInit> {
  const own = transaction
    .selectFrom('predictions')
    .where('monitor', '=', version.monitor)
    .where('digest', '=', version.digest)
  const { kept } = await own.select(({ fn }) => fn.countAll<number>().as('kept')).executeTakeFirstOrThrow()
  const labelled = await own
    .select(['score', 'label'])
    .where('label', 'is not', null)
    .orderBy('event_micros', 'desc')
    .limit(limits.performanceRows)
    .execute()
  const rows = labelled.flatMap(({ score, label }): Scored[] =>
    score === null || label === null ? [] : [{ score, label }],
  )
  const binary = rows.filter(({ label, score }) => (label === 0 || label === 1) && score >= 0 && score <= 1)
  const metrics = { logLoss: logLoss(binary), auc: aucRoc(binary), brier: brierScore(rows) }
  const positives = binary.reduce((sum, { label }) => sum + label, 0)
  return {
    labelled: BigInt(labelled.length),
    coverage: kept === 0 ? 0 : labelled.length / kept,
    ...(metrics.logLoss === undefined ? {} : { logLoss: metrics.logLoss }),
    ...(metrics.auc === undefined ? {} : { auc: metrics.auc }),
    ...(metrics.brier === undefined ? {} : { brier: metrics.brier }),
    ...(binary.length === 0 ? {} : { positiveShare: positives / binary.length }),
  }
}

function missingPolicy(): never {
  throw new Error('a monitor is kept with its policy')
}
