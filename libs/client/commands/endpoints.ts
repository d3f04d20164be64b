/** `slipway endpoints …` and `slipway loaded …`: what applications call, and which versions answer. */
import { LoadedVersionSchema, LoadState } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { type Endpoint, EndpointSchema } from '@slipway/proto/slipway/routing/v1/endpoint'
import { WatchEndpointsResponseSchema } from '@slipway/proto/slipway/routing/v1/routing_service'
import { UsageError } from '../command.ts'
import { allPages, type Command, type Invocation, showList, showMessage, showNext } from '../invocation.ts'
import { momentText } from '../moment.ts'
import { endpointName, shortName, versionName, versionReference } from '../resource-name.ts'
import { bytesText, enumText, fields, table } from '../terminal.ts'

const endpoint = { name: 'endpoint', doc: 'the endpoint, such as flight-delay' }
const numbered = { name: 'version', doc: 'the version, such as flights/3' }
const variants = {
  variant: {
    value: 'NAME=VERSION:PERCENT',
    doc: 'such as champion=flights@champion:95 or canary=flights/4:5; the percents add up to 100',
    many: true,
    required: true,
  },
} as const
const etag = { value: 'ETAG', doc: 'change it only if it is still as you saw it' }

/** Commands about endpoints. */
export const endpointCommands: readonly Command[] = [
  { name: 'endpoints list', summary: 'all endpoints and their variants', run: listEndpoints },
  { name: 'endpoints get', summary: 'one endpoint', arguments: [endpoint], run: getEndpoint },
  {
    name: 'endpoints create',
    summary: 'a new endpoint',
    arguments: [endpoint],
    options: {
      ...variants,
      description: { value: 'TEXT', doc: 'what is predicted here' },
      'explain-rate': { value: 'SHARE', doc: 'share of predictions whose log has attributions, 0 to 1' },
    },
    run: createEndpoint,
  },
  {
    name: 'endpoints traffic',
    summary: 'replace the variants and their weights, in one step',
    arguments: [endpoint],
    options: { ...variants, etag },
    run: setTraffic,
  },
  {
    name: 'endpoints delete',
    summary: 'remove an endpoint',
    arguments: [endpoint],
    options: { etag },
    run: deleteEndpoint,
  },
  { name: 'endpoints watch', summary: 'every endpoint as it is, and then every change', run: watchEndpoints },
  { name: 'loaded list', summary: 'the versions that inference holds ready', run: listLoaded },
  { name: 'loaded load', summary: 'have a version loaded', arguments: [numbered], run: loadVersion },
  { name: 'loaded unload', summary: 'let a version go', arguments: [numbered], run: unloadVersion },
]

async function listEndpoints(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const endpoints = await allPages(
    (pageToken) => slipway.routing.listEndpoints({ pageToken }),
    (page) => page.endpoints,
  )
  showList(invocation, EndpointSchema, endpoints, {
    header: ['endpoint', 'variants', 'changed'],
    row: (each) => [shortName(each.name), variantsText(each), momentText(each.updateTime)],
  })
}

async function getEndpoint(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const found = await slipway.routing.getEndpoint({ name: endpointName(words.text('endpoint')) })
  showMessage(invocation, EndpointSchema, found, describeEndpoint)
}

async function createEndpoint(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const wanted = {
    name: endpointName(words.text('endpoint')),
    description: words.optional('description') ?? '',
    explainSamplingRate: readShare('explain-rate', words.optional('explain-rate')),
    variants: readVariants(words.many('variant')),
  }
  showMessage(invocation, EndpointSchema, await slipway.routing.createEndpoint({ endpoint: wanted }), describeEndpoint)
}

function readShare(option: string, text = '0'): number {
  const share = Number(text)
  if (text.trim() !== '' && share >= 0 && share <= 1) return share
  throw new UsageError(`--${option} ${text}: must be a share from 0 to 1`)
}

async function setTraffic(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const changed = await slipway.routing.setTraffic({
    name: endpointName(words.text('endpoint')),
    variants: readVariants(words.many('variant')),
    etag: words.optional('etag') ?? '',
  })
  showMessage(invocation, EndpointSchema, changed, describeEndpoint)
}

async function deleteEndpoint(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = endpointName(words.text('endpoint'))
  const removed = await slipway.routing.deleteEndpoint({ name, etag: words.optional('etag') ?? '' })
  showMessage(invocation, EndpointSchema, removed, () => `${shortName(name)} is removed\n`)
}

async function watchEndpoints(invocation: Invocation): Promise<void> {
  const { slipway, signal } = invocation
  for await (const change of slipway.routing.watchEndpoints({}, { signal })) {
    showNext(invocation, WatchEndpointsResponseSchema, change, ({ endpoint: found, deleted }) =>
      found === undefined ? '' : `${shortName(found.name)}  ${deleted ? 'removed' : variantsText(found)}`,
    )
  }
}

async function listLoaded(invocation: Invocation): Promise<void> {
  const { versions } = await invocation.slipway.modelControl.listLoadedVersions({})
  showList(invocation, LoadedVersionSchema, versions, {
    header: ['version', 'state', 'size', 'ready', 'digest', 'message'],
    row: (each) => [
      shortName(each.name),
      enumText(LoadState, each.state),
      bytesText(Number(each.sizeBytes)),
      momentText(each.readyTime),
      each.digest,
      each.message,
    ],
  })
}

async function loadVersion(invocation: Invocation): Promise<void> {
  const name = versionName(invocation.words.text('version'))
  const loaded = await invocation.slipway.modelControl.loadVersion({ name })
  showMessage(invocation, LoadedVersionSchema, loaded, ({ digest }) => `${shortName(name)} is ready, ${digest}\n`)
}

async function unloadVersion(invocation: Invocation): Promise<void> {
  const name = versionName(invocation.words.text('version'))
  const gone = await invocation.slipway.modelControl.unloadVersion({ name })
  showMessage(invocation, LoadedVersionSchema, gone, () => `${shortName(name)} is let go\n`)
}

/** Reads `champion=flights@champion:95`; a single variant needs no percent. */
function readVariants(texts: readonly string[]) {
  const read = texts.map((text) => {
    const match = /^([a-z][a-z0-9-]*)=(.+?)(?::(\d+(?:\.\d{1,2})?)%?)?$/.exec(text)
    const [, name = '', target = '', percent] = match ?? []
    if (match === null)
      throw new UsageError(`--variant ${text}: must be NAME=VERSION:PERCENT, such as canary=flights/4:5`)
    const { kind, name: targetName } = versionReference(target)
    if (kind === 'digest') throw new UsageError(`--variant ${text}: name a version or an alias, not a digest`)
    const share = percent === undefined && texts.length === 1 ? 100 : Number(percent)
    return { name, target: targetName, weightBasisPoints: Math.round(share * 100) }
  })
  const total = read.reduce((sum, { weightBasisPoints }) => sum + weightBasisPoints, 0)
  if (total !== 10_000) throw new UsageError(`the percents of the variants add up to ${total / 100}, not to 100`)
  return read
}

function variantsText({ variants: all }: Endpoint): string {
  return all
    .map(
      ({ name, weightBasisPoints, modelVersion, target }) =>
        `${name} ${weightBasisPoints / 100} % ${shortName(modelVersion || target)}`,
    )
    .join(', ')
}

function describeEndpoint(found: Endpoint): string {
  const rows = found.variants.map((each) => [
    each.name,
    `${each.weightBasisPoints / 100} %`,
    shortName(each.target),
    shortName(each.modelVersion),
    each.digest,
    each.problem,
  ])
  return [
    fields([
      ['endpoint', shortName(found.name)],
      ['description', found.description],
      ['changed', `${momentText(found.updateTime)}, revision ${found.revision}`],
      ['etag', found.etag],
    ]),
    '\n',
    table(['variant', 'weight', 'target', 'answers', 'digest', 'problem'], rows),
  ].join('')
}
