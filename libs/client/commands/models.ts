/** `slipway models …`: names under which versions are registered. */
import { fileSource, uploadFile } from '@slipway/models'
import { type Gate, GateSchema, Metric, type Model, ModelSchema } from '@slipway/proto/slipway/registry/v1/model'
import { allPages, type Command, type Invocation, showList, showMessage } from '../invocation.ts'
import { momentText } from '../moment.ts'
import { modelName, shortName } from '../resource-name.ts'
import { enumText, fields } from '../terminal.ts'
import { readJson } from './json-file.ts'

const model = { name: 'model', doc: 'the model, such as flights' }

/** Commands about models. */
export const modelCommands: readonly Command[] = [
  { name: 'models list', summary: 'all models', run: listModels },
  { name: 'models get', summary: 'one model and its gate', arguments: [model], run: getModel },
  {
    name: 'models create',
    summary: 'a new model',
    arguments: [model],
    options: { description: { value: 'TEXT', doc: 'what it predicts' } },
    run: createModel,
  },
  {
    name: 'gate set',
    summary: 'the rules that every new version of a model must pass',
    arguments: [model, { name: 'file', doc: 'the gate as JSON (slipway.registry.v1.Gate)' }],
    options: { 'golden-set': { value: 'FILE', doc: 'a serialized slipway.registry.v1.GoldenSet to upload and use' } },
    run: setGate,
  },
]

async function listModels(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const models = await allPages(
    (pageToken) => slipway.registry.listModels({ pageToken }),
    (page) => page.models,
  )
  showList(invocation, ModelSchema, models, {
    header: ['model', 'versions', 'created', 'description'],
    row: ({ name, latestVersion, createTime, description }) => [
      shortName(name),
      String(latestVersion),
      momentText(createTime),
      description,
    ],
  })
}

async function getModel(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const found = await slipway.registry.getModel({ name: modelName(words.text('model')) })
  showMessage(invocation, ModelSchema, found, describeModel)
}

async function createModel(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const wanted = { name: modelName(words.text('model')), description: words.optional('description') ?? '' }
  showMessage(invocation, ModelSchema, await slipway.registry.createModel({ model: wanted }), describeModel)
}

async function setGate(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const gate = await readJson(words.text('file'), GateSchema)
  const goldenSet = words.optional('golden-set')
  if (goldenSet !== undefined) {
    const { digest } = await uploadFile(slipway.registry, await fileSource(goldenSet))
    gate.goldenSetDigest = digest
  }
  const { etag, name } = await slipway.registry.getModel({ name: modelName(words.text('model')) })
  const changed = await slipway.registry.updateModel({ model: { name, etag, gate }, updateMask: { paths: ['gate'] } })
  showMessage(invocation, ModelSchema, changed, describeModel)
}

function describeModel({ name, description, latestVersion, gate, createTime, labels }: Model): string {
  return fields([
    ['model', shortName(name)],
    ['description', description],
    ['newest version', latestVersion === 0n ? 'none' : String(latestVersion)],
    ['golden set', gate?.goldenSetDigest],
    ...gateRules(gate).map((rule): [string, string] => ['gate', rule]),
    [
      'labels',
      Object.entries(labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(', '),
    ],
    ['created', momentText(createTime)],
  ])
}

function gateRules(gate: Gate | undefined): string[] {
  const { meanAbsoluteDifference, maxAbsoluteDifference, meanRelativeDifference, changedDecisionShare } =
    gate?.tolerances ?? {}
  const bounds = { meanAbsoluteDifference, maxAbsoluteDifference, meanRelativeDifference, changedDecisionShare }
  const tolerances = Object.entries(bounds).flatMap(([name, bound]) =>
    bound === undefined ? [] : [`${name} <= ${bound}`],
  )
  const metrics = (gate?.metrics ?? []).map(({ metric, bound, margin }) =>
    [
      enumText(Metric, metric),
      ...(bound === undefined ? [] : [`not worse than ${bound}`]),
      ...(margin === undefined ? [] : [`at most ${margin} worse than the champion's`]),
    ].join(' '),
  )
  return [...tolerances, ...metrics]
}
