/**
 * Brings what an endpoint has answered into files that a job can read: the feature values of each logged prediction under
 * their names, in JSON Lines, a file for each part.
 *
 * 1. Every prediction of the range is there once, however often the log holds it.
 * 2. What was logged stands in the order of its version's bindings; the version's digest says which.
 * 3. Memory does not grow with the log: ids that were seen are on disk.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { consume, type Event, type EventBus, topics } from '@slipway/events'
import {
  FeatureStatus,
  type PredictionLogged,
  type PredictionLoggedSchema,
} from '@slipway/proto/slipway/events/v1/prediction'
import type { BatchJob, PredictionLogInput } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { FeatureType, type ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { microsFromTimestamp } from '@slipway/resources'
import { InputError } from './input-error.ts'
import type { OutputFolder } from './output-folder.ts'
import { columnsOf } from './part-query.ts'
import type { KeyColumn, Part, Plan, Recipe } from './recipe.ts'

/** Columns that every row from the log has besides features. */
export const logKeys: readonly KeyColumn[] = [
  { column: 'prediction_id', type: 'VARCHAR' },
  { column: 'event_time', type: 'TIMESTAMP' },
  { column: 'model_version', type: 'VARCHAR' },
]

/** The column with what was answered then. */
export function loggedColumn(output: string): KeyColumn {
  return { column: `logged_${output}`, type: 'DOUBLE' }
}

/** Brings the rows of a job into its folder and says which parts they make. */
export type StageLog = (
  job: BatchJob,
  input: PredictionLogInput,
  folder: OutputFolder,
  recipe: Recipe,
  signal: AbortSignal,
) => Promise<Plan>

/** What staging needs. */
export interface StageLogOptions {
  readonly bus: EventBus
  /** Reads a version of the registry. */
  readonly version: (name: string) => Promise<ModelVersion>
  /** Folder for what is put aside. */
  readonly temporary: string
}

type Events = readonly Event<typeof PredictionLoggedSchema>[]

/** Makes the staging of the log. */
export function createStageLog({ bus, version, temporary }: StageLogOptions): StageLog {
  return async (job, input, folder, recipe, signal) => {
    const attempt = randomUUID()
    await mkdir(folder.inputFolder, { recursive: true })
    await mkdir(temporary, { recursive: true })
    const seen = new SeenIds(join(temporary, `seen-${attempt}.db`))
    const writer = new PartWriter(join(folder.inputFolder, attempt), recipe.rowsPerPart)
    const rows = new RowMaker(recipe, version)
    const isWanted = wantedBy(input, job)
    const failed = Promise.withResolvers<never>()
    failed.promise.catch(() => undefined)
    signal.addEventListener('abort', () => failed.reject(signal.reason), { once: true })
    const handle = async (events: Events): Promise<void> => {
      try {
        const wanted = events.filter(isWanted)
        const lines: string[] = []
        for (const { message } of wanted) {
          if (seen.add(message.predictionId)) lines.push(await rows.line(message))
        }
        await writer.add(lines)
      } catch (error) {
        // Half a batch may be written: the whole is begun anew.
        failed.reject(error)
        throw error
      }
    }
    const subscription = await consume(bus, topics.predictions, {
      group: 'slipway-inference-batch-log',
      isTemporary: true,
      from: input.startTime === undefined ? 'earliest' : { timeMicros: microsFromTimestamp(input.startTime) },
      handle,
    })
    try {
      await Promise.race([subscription.caughtUp(), failed.promise])
    } finally {
      await subscription.stop()
      await seen.close()
    }
    return await writer.close()
  }
}

function wantedBy(input: PredictionLogInput, job: BatchJob): (event: Events[number]) => boolean {
  const limit = input.endTime ?? job.createTime
  const endMicros = limit === undefined ? undefined : microsFromTimestamp(limit)
  const startMicros = input.startTime === undefined ? undefined : microsFromTimestamp(input.startTime)
  return ({ message, record }) =>
    message.endpoint === input.endpoint &&
    (input.modelVersion === '' || message.modelVersion === input.modelVersion) &&
    (startMicros === undefined || record.timeMicros >= startMicros) &&
    (endMicros === undefined || record.timeMicros < endMicros)
}

/** Ids on disk. */
class SeenIds {
  readonly #path: string
  readonly #database: DatabaseSync
  readonly #insert: ReturnType<DatabaseSync['prepare']>

  constructor(path: string) {
    this.#path = path
    this.#database = new DatabaseSync(path)
    this.#database.exec(
      'pragma journal_mode = off; pragma synchronous = off; create table ids (id text primary key) without rowid',
    )
    this.#insert = this.#database.prepare('insert or ignore into ids values (?)')
  }

  /** True when the id is new. */
  add(id: string): boolean {
    return Number(this.#insert.run(id).changes) === 1
  }

  async close(): Promise<void> {
    this.#database.close()
    await rm(this.#path, { force: true })
  }
}

/** Files of so many rows. */
class PartWriter {
  readonly #prefix: string
  readonly #rowsPerPart: number
  readonly #files: string[] = []
  readonly #parts: Part[] = []
  #current = { rows: 0, bytes: 0 }

  constructor(prefix: string, rowsPerPart: number) {
    this.#prefix = prefix
    this.#rowsPerPart = rowsPerPart
  }

  async add(lines: readonly string[]): Promise<void> {
    let left = lines
    while (left.length > 0) {
      if (this.#files.length === 0 || this.#current.rows === this.#rowsPerPart) this.#next()
      const now = left.slice(0, this.#rowsPerPart - this.#current.rows)
      const text = `${now.join('\n')}\n`
      await writeFile(this.#files.at(-1) ?? '', text, { flag: 'a' })
      this.#current.rows += now.length
      this.#current.bytes += Buffer.byteLength(text)
      left = left.slice(now.length)
    }
  }

  async close(): Promise<Plan> {
    this.#endPart()
    for (const path of this.#files) {
      const file = await open(path, 'r+')
      await file.sync().finally(() => file.close())
    }
    return { files: this.#files, parts: this.#parts, rows: this.#parts.reduce((sum, { rows }) => sum + rows, 0) }
  }

  #next(): void {
    this.#endPart()
    this.#files.push(`${this.#prefix}-${String(this.#files.length).padStart(5, '0')}.jsonl`)
    this.#current = { rows: 0, bytes: 0 }
  }

  #endPart(): void {
    const { rows, bytes } = this.#current
    if (rows > 0) this.#parts.push({ file: this.#files.length - 1, first: 0, rows, offset: 0, length: bytes })
    this.#current = { rows: 0, bytes: 0 }
  }
}

/** Rows in JSON, of predictions that any version answered. */
class RowMaker {
  readonly #recipe: Recipe
  readonly #version: StageLogOptions['version']
  readonly #known = new Map<string, ModelVersion>()

  constructor(recipe: Recipe, version: StageLogOptions['version']) {
    this.#recipe = recipe
    this.#version = version
  }

  async line(message: PredictionLogged): Promise<string> {
    const version = this.#known.get(message.modelVersion) ?? (await this.#resolve(message))
    const row: string[] = [
      member('prediction_id', JSON.stringify(message.predictionId)),
      member('model_version', JSON.stringify(message.modelVersion)),
      member('event_time', JSON.stringify(timeText(message))),
      ...version.outputs.map(({ output }, index) => member(`logged_${output}`, numberText(message.outputs[index]))),
    ]
    let [doubles, int64s, strings] = [0, 0, 0]
    for (const [index, { feature, type }] of version.features.entries()) {
      let value: string
      if (type === FeatureType.DOUBLE) value = numberText(message.doubles[doubles++])
      else if (type === FeatureType.STRING) value = JSON.stringify(message.strings[strings++] ?? '')
      else value = String(message.int64s[int64s++] ?? 'null')
      const isThere = message.featureStatuses[index] === FeatureStatus.PRESENT
      row.push(member(feature, isThere ? value : 'null'))
    }
    return `{${row.join(',')}}`
  }

  async #resolve({ modelVersion, digest }: PredictionLogged): Promise<ModelVersion> {
    const version = await this.#version(modelVersion)
    if (version.digest !== digest)
      throw new InputError(`${modelVersion} is not what answered: its digest is another one`)
    const names = new Set(version.features.map(({ feature }) => feature))
    const keys = this.#recipe.keys.map(({ column }) => column)
    const missing = columnsOf(this.#recipe).find((column) => !names.has(column) && !keys.includes(column))
    if (missing !== undefined) throw new InputError(`${modelVersion}, which answered then, has no feature ${missing}`)
    this.#known.set(modelVersion, version)
    return version
  }
}

function member(name: string, value: string): string {
  return `${JSON.stringify(name)}:${value}`
}

function numberText(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? 'null' : String(value)
}

function timeText({ eventTime }: PredictionLogged): string | null {
  if (eventTime === undefined) return null
  const micros = microsFromTimestamp(eventTime)
  const seconds = new Date(Number(micros / 1000n)).toISOString().slice(0, 19)
  return `${seconds}.${String(micros % 1_000_000n).padStart(6, '0')}`
}
