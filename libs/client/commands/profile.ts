/** `slipway profile`: how a version is best run on the machine of the inference server. */
import { toJson } from '@bufbuild/protobuf'
import { durationFromMs } from '@bufbuild/protobuf/wkt'
import {
  type ServingPoint,
  type ServingProfile,
  ServingProfileSchema,
  type ServingSetting,
} from '@slipway/proto/slipway/registry/v1/serving_profile'
import { UsageError } from '../command.ts'
import { type Command, type Invocation, show } from '../invocation.ts'
import { endpointName, shortName, versionName } from '../resource-name.ts'
import { bytesText, countText, numberText, progress, table } from '../terminal.ts'

/** The command about profiles. */
export const profileCommands: readonly Command[] = [
  {
    name: 'profile',
    summary: 'measure a version under settings and loads, and say which setting is best',
    arguments: [{ name: 'version', doc: 'the version, such as flights/3' }],
    options: {
      executors: { value: 'N,N', doc: 'executors to try; default 1 and the number of cores' },
      threads: { value: 'N,N', doc: 'threads of a run to try; default 1 and the number of cores' },
      'batch-rows': { value: 'N,N', doc: 'rows of a batch to try; default 1,16,256' },
      concurrency: { value: 'N,N', doc: 'callers to try; default 1,8,64' },
      seconds: { value: 'N', doc: 'how long each is measured; default 1' },
      rows: { value: 'N', doc: 'rows of each generated request; default 1' },
      seed: { value: 'N', doc: 'seed of the generated requests; default 0' },
      recorded: { value: 'ENDPOINT', doc: 'send the sampled requests of an endpoint instead of generated ones' },
      'max-p99': { value: 'MS', doc: 'the recommended setting answers 99 of 100 requests in so many milliseconds' },
      'min-rows': { value: 'N', doc: 'the recommended setting answers so many rows a second' },
      'max-memory': { value: 'MIB', doc: 'the recommended setting holds no more memory' },
      all: { doc: 'show every point, not only those that no other one beats' },
      'no-store': { doc: 'do not store the profile on the version' },
    },
    run: profileVersion,
  },
]

async function profileVersion(invocation: Invocation): Promise<void> {
  const { slipway, words, terminal, signal } = invocation
  const name = versionName(words.text('version'))
  const line = progress(terminal, 'profile')
  const request = {
    name,
    executors: numbersOf(words.optional('executors'), '--executors'),
    intraOpThreads: numbersOf(words.optional('threads'), '--threads'),
    maxBatchRows: numbersOf(words.optional('batch-rows'), '--batch-rows'),
    concurrency: numbersOf(words.optional('concurrency'), '--concurrency'),
    measureTime: durationFromMs(1000 * (numberOf(words.optional('seconds'), '--seconds') ?? 1)),
    load: loadOf(invocation),
    objective: {
      ...given('p99Ms', numberOf(words.optional('max-p99'), '--max-p99')),
      ...given('rowsPerSecond', numberOf(words.optional('min-rows'), '--min-rows')),
      ...memoryOf(numberOf(words.optional('max-memory'), '--max-memory')),
    },
    store: !words.flag('no-store'),
  }
  let found: ServingProfile | undefined
  try {
    for await (const { pointsDone, pointsTotal, point, profile } of slipway.profiles.profileVersion(request, {
      signal,
    })) {
      if (point !== undefined) line.update(pointsDone / pointsTotal, pointText(point))
      found = profile ?? found
    }
  } finally {
    line.end()
  }
  const result = found
  if (result === undefined) return
  show(invocation, toJson(ServingProfileSchema, result), () => describe(name, result, words.flag('all')))
}

function loadOf({ words }: Invocation) {
  const endpoint = words.optional('recorded')
  if (endpoint !== undefined) return { case: 'recorded' as const, value: { endpoint: endpointName(endpoint) } }
  const rows = numberOf(words.optional('rows'), '--rows') ?? 1
  const seed = numberOf(words.optional('seed'), '--seed') ?? 0
  return { case: 'generated' as const, value: { rows, seed: BigInt(Math.trunc(seed)) } }
}

function describe(name: string, { machine, load, points, recommended }: ServingProfile, isWhole: boolean): string {
  const shown = isWhole ? points : points.filter(({ pareto }) => pareto)
  const rows = shown.map((point) => [
    ...settingCells(point.setting),
    String(point.concurrency),
    countText(Math.round(point.rowsPerSecond)),
    numberText(point.p50Ms),
    numberText(point.p99Ms),
    bytesText(Number(point.memoryBytes)),
    `${numberText(point.cpuMicrosPerRow)} µs`,
    numberText(point.meanBatchRows),
    point.pareto ? '*' : '',
  ])
  const head = [
    'executors',
    'threads',
    'batch rows',
    'callers',
    'rows/s',
    'p50 ms',
    'p99 ms',
    'memory',
    'CPU/row',
    'rows/batch',
    '',
  ]
  const best =
    recommended === undefined
      ? 'no setting meets the objective'
      : `best: SLIPWAY_INFERENCE_EXECUTORS=${recommended.executors} SLIPWAY_INFERENCE_INTRA_OP_THREADS=${recommended.intraOpThreads} SLIPWAY_INFERENCE_MAX_BATCH_ROWS=${recommended.maxBatchRows}`
  const hidden = points.length - shown.length
  const left = hidden === 0 ? '' : `${hidden} points that others beat are left out (--all)\n`
  return `${shortName(name)} on ${machine}\n${load}\n\n${table(head, rows)}${left}${best}\n`
}

function settingCells(setting: ServingSetting | undefined): string[] {
  return [setting?.executors, setting?.intraOpThreads, setting?.maxBatchRows].map((value) => String(value ?? ''))
}

function pointText({ setting, concurrency, rowsPerSecond }: ServingPoint): string {
  const [executors, threads, rows] = settingCells(setting)
  return `${executors} × ${threads} threads, ${rows} rows, ${concurrency} callers: ${countText(Math.round(rowsPerSecond))} rows/s`
}

function numbersOf(text: string | undefined, option: string): number[] {
  return text === undefined ? [] : text.split(',').map((part) => numberOf(part, option) ?? 0)
}

function numberOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new UsageError(`${option}: "${text}" is not a number`)
  return value
}

function given<K extends string>(key: K, value: number | undefined): Partial<Record<K, number>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, number>)
}

function memoryOf(mebibytes: number | undefined): { readonly memoryBytes?: bigint } {
  return mebibytes === undefined ? {} : { memoryBytes: BigInt(Math.round(mebibytes * 1024 * 1024)) }
}
