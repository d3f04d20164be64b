/** `slipway versions …` and `slipway gate …`: immutable versions, and whether they may be deployed. */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { create, toJson } from '@bufbuild/protobuf'
import { bytesSource, downloadFile, fileSource, uploadFile } from '@slipway/models'
import {
  type GateReport,
  GateReportSchema,
  GateState,
  ModelFileSchema,
  type ModelVersion,
  ModelVersionSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { CreateVersionRequestSchema } from '@slipway/proto/slipway/registry/v1/registry_service'
import type { ServingProfile } from '@slipway/proto/slipway/registry/v1/serving_profile'
import { UsageError } from '../command.ts'
import { runGate as judge } from '../gate.ts'
import { allPages, type Command, type Invocation, show, showList, showMessage } from '../invocation.ts'
import { momentText } from '../moment.ts'
import { modelName, shortName, versionName, versionReference } from '../resource-name.ts'
import {
  bytesText,
  countText,
  enumText,
  fields,
  numberText,
  progress,
  styled,
  type Terminal,
  table,
} from '../terminal.ts'
import { readJson } from './json-file.ts'
import { readExample } from './tensor-file.ts'

const version = { name: 'version', doc: 'flights/3, flights@champion, or a digest' }
const numbered = { name: 'version', doc: 'the version, such as flights/3' }

/** Commands about versions. */
export const versionCommands: readonly Command[] = [
  {
    name: 'versions list',
    summary: 'the versions of a model, newest first',
    arguments: [{ name: 'model', doc: 'the model, such as flights' }],
    run: listVersions,
  },
  {
    name: 'versions get',
    summary: 'one version: files, signature, features, lineage',
    arguments: [version],
    run: getVersion,
  },
  {
    name: 'versions register',
    summary: 'upload files and register them as the next version of a model',
    arguments: [{ name: 'model', doc: 'the model, such as flights' }],
    options: {
      file: {
        value: 'PATH=FILE',
        doc: 'a file of the version; model.onnx=FILE or pipeline.json=FILE must be one of them',
        many: true,
      },
      folder: { value: 'DIR', doc: 'a folder all of whose files are files of the version, by their paths in it' },
      spec: { value: 'FILE', doc: 'features, outputs, lineage as JSON (slipway.registry.v1.CreateVersionRequest)' },
      example: {
        value: 'FILE',
        doc: 'a request as JSON, as over HTTP; every server has the version answer it before it serves',
      },
      'example-answer': {
        value: 'FILE',
        doc: 'the answer to it; a version that answers otherwise is refused',
      },
      'request-id': { value: 'UUID', doc: 'repeat a call without making a second version' },
    },
    run: registerVersion,
  },
  {
    name: 'versions download',
    summary: 'the files of a version, verified; continues where it broke off',
    arguments: [version, { name: 'directory', doc: 'where to put them' }],
    run: downloadVersion,
  },
  { name: 'gate run', summary: 'judge a version against the champion', arguments: [numbered], run: runGate },
  { name: 'gate report', summary: 'what the gate said last', arguments: [version], run: showGateReport },
]

async function listVersions(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const parent = modelName(words.text('model'))
  const versions = await allPages(
    (pageToken) => slipway.registry.listVersions({ parent, pageToken }),
    (page) => page.versions,
  )
  showList(invocation, ModelVersionSchema, versions, {
    header: ['version', 'gate', 'aliases', 'created', 'digest'],
    row: (each) => [
      shortName(each.name),
      enumText(GateState, each.gateState),
      each.aliases.map((alias) => alias.replace(/^.*\//, '')).join(' '),
      momentText(each.createTime),
      each.digest,
    ],
  })
}

async function getVersion(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const { name } = versionReference(words.text('version'))
  showMessage(invocation, ModelVersionSchema, await slipway.registry.getVersion({ name }), describeVersion)
}

async function registerVersion(invocation: Invocation): Promise<void> {
  const { slipway, words, terminal, signal } = invocation
  const spec = words.optional('spec')
  const request =
    spec === undefined ? create(CreateVersionRequestSchema) : await readJson(spec, CreateVersionRequestSchema)
  request.parent = modelName(words.text('model'))
  request.requestId = words.optional('request-id') ?? randomUUID()
  const folder = words.optional('folder')
  const files = [...words.many('file').map(splitFile), ...(folder === undefined ? [] : await filesIn(folder))]
  if (files.length === 0) throw new UsageError('name the files: --file model.onnx=out/model.onnx, or --folder out')
  const contents = await Promise.all(files.map(async ([path, source]) => [path, await fileSource(source)] as const))
  for (const [path, bytes] of Object.entries(await exampleOf(words))) contents.push([path, bytesSource(bytes)])
  for (const [path, content] of contents) {
    const line = progress(terminal, path)
    const onProgress = (done: number) => line.update(done / content.sizeBytes, bytesText(content.sizeBytes))
    const { digest, sizeBytes } = await uploadFile(slipway.registry, content, { onProgress, signal })
    line.end()
    request.files.push(create(ModelFileSchema, { path, digest, sizeBytes: BigInt(sizeBytes) }))
  }
  const made = await slipway.registry.createVersion(request)
  showMessage(invocation, ModelVersionSchema, made, describeVersion)
}

async function exampleOf(words: Invocation['words']): Promise<Record<string, Uint8Array>> {
  const request = words.optional('example')
  const answer = words.optional('example-answer')
  if (request !== undefined) return await readExample(request, answer)
  if (answer === undefined) return {}
  throw new UsageError('--example-answer needs --example: the request that it answers')
}

async function filesIn(folder: string): Promise<[string, string][]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return paths.sort().map((path) => [relative(folder, path).split(sep).join('/'), path])
}

function splitFile(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at <= 0 || at === text.length - 1)
    throw new UsageError(`--file ${text}: must be PATH=FILE, such as model.onnx=out/model.onnx`)
  return [text.slice(0, at), text.slice(at + 1)]
}

async function downloadVersion(invocation: Invocation): Promise<void> {
  const { slipway, words, terminal, signal } = invocation
  const directory = words.text('directory')
  const found = await slipway.registry.getVersion({ name: versionReference(words.text('version')).name })
  for (const { path, digest, sizeBytes } of found.files) {
    const line = progress(terminal, path)
    const onProgress = (done: number) => line.update(done / Number(sizeBytes), bytesText(Number(sizeBytes)))
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await downloadFile(slipway.registry, digest, join(directory, path), { onProgress, signal })
    line.end()
  }
  const files = found.files.map(({ path, digest }) => ({ path: join(directory, path), digest }))
  show(invocation, { version: found.name, digest: found.digest, files }, () =>
    table(
      ['file', 'digest'],
      files.map(({ path, digest }) => [path, digest]),
    ),
  )
}

async function runGate(invocation: Invocation): Promise<void> {
  const { slipway, words, terminal, signal } = invocation
  const name = versionName(words.text('version'))
  const line = progress(terminal, 'gate')
  const onProgress = (percent: number, stage: string) => line.update(percent / 100, stage)
  const report = await judge(slipway.registry, name, onProgress, signal)
  line.end()
  showReport(invocation, report)
}

async function showGateReport(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const found = await slipway.registry.getVersion({ name: versionReference(words.text('version')).name })
  if (found.gateReport === undefined)
    throw new Error(`the gate has not judged ${shortName(found.name)} yet: slipway gate run ${shortName(found.name)}`)
  showReport(invocation, found.gateReport)
}

/** A version that did not pass ends the command with 1, so that scripts can go by it. */
function showReport(invocation: Invocation, report: GateReport): void {
  show(invocation, toJson(GateReportSchema, report), () => describeReport(invocation.terminal, report))
  if (!report.passed) throw new Error('the version did not pass the gate')
}

function describeReport(terminal: Terminal, report: GateReport): string {
  const rows = report.checks.map(({ rule, measured, bound, champion, passed }) => [
    passed ? 'held' : 'BROKEN',
    rule,
    numberText(measured),
    numberText(bound),
    champion === undefined ? '' : numberText(champion),
  ])
  const verdict = report.passed ? styled(terminal, 'green', 'passed') : styled(terminal, 'red', 'failed')
  return [
    fields([
      ['gate', `${verdict} on ${countText(report.rows)} rows`],
      ['candidate', report.candidateDigest],
      ['champion', report.championDigest || 'none, nothing was compared'],
      ['time', momentText(report.time)],
    ]),
    '\n',
    table(['', 'rule', 'measured', 'bound', 'champion'], rows),
  ].join('')
}

/** What a profile recommends, in a few words. */
function bestSetting({ recommended, time, machine }: ServingProfile): string | undefined {
  if (recommended === undefined) return undefined
  const { executors, intraOpThreads, maxBatchRows } = recommended
  const setting = `${executors} executors, ${intraOpThreads} threads, ${maxBatchRows} rows a batch`
  return `${setting} (profiled ${momentText(time)} on ${machine})`
}

function describeVersion(found: ModelVersion): string {
  const { lineage, signature } = found
  const tensors = (specs: readonly { name: string; datatype: string; shape: bigint[] }[] = []) =>
    specs.map(({ name, datatype, shape }) => `${name} ${datatype}[${shape.join(', ')}]`).join(', ')
  return fields([
    ['version', shortName(found.name)],
    ['digest', found.digest],
    ['aliases', found.aliases.map((alias) => alias.replace(/^.*\//, '')).join(' ')],
    ['gate', enumText(GateState, found.gateState)],
    ['files', found.files.map(({ path, sizeBytes }) => `${path} (${bytesText(Number(sizeBytes))})`).join(', ')],
    ['inputs', tensors(signature?.inputs)],
    ['outputs', tensors(signature?.outputs)],
    ['features', found.features.map(({ feature }) => feature).join(' ')],
    ['feature service', found.featureService],
    ['references', found.referenceDistributions.map(({ name }) => name).join(' ')],
    ['dataset', lineage?.datasetDigest],
    ['code', lineage?.codeCommit],
    ['framework', lineage?.framework],
    ['parent', lineage && shortName(lineage.parentVersion)],
    [
      'metrics',
      Object.entries(lineage?.metrics ?? {})
        .map(([name, value]) => `${name} ${numberText(value)}`)
        .join(', '),
    ],
    ['runs best', found.servingProfile && bestSetting(found.servingProfile)],
    ['created', `${momentText(found.createTime)} by ${found.creator || 'unknown'}`],
  ])
}
