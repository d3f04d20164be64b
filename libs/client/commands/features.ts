/** `slipway features …` and `slipway datasets …`: what the feature store holds. */

import type { FeatureVector, GetOnlineFeaturesResponse } from '@slipway/proto/slipway/features/v1/feature_store_service'
import {
  DatasetSchema,
  GetOnlineFeaturesResponseSchema,
} from '@slipway/proto/slipway/features/v1/feature_store_service'
import {
  EntitySchema,
  FeatureServiceSchema,
  type FeatureView,
  FeatureViewSchema,
} from '@slipway/proto/slipway/features/v1/feature_view'
import { FeatureStatus, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { UsageError } from '../command.ts'
import { allPages, type Command, type Invocation, showList, showMessage } from '../invocation.ts'
import { momentText, parseMoment } from '../moment.ts'
import { countText, enumText, fields, numberText, table } from '../terminal.ts'
import { readValues } from './value-words.ts'

/** Commands about features. */
export const featureCommands: readonly Command[] = [
  { name: 'features entities', summary: 'the things that features describe', run: listEntities },
  { name: 'features views', summary: 'the groups of features that are written together', run: listViews },
  {
    name: 'features view',
    summary: 'one view and its features',
    arguments: [{ name: 'view', doc: 'the view, such as route_stats' }],
    run: getView,
  },
  { name: 'features services', summary: 'the features that models read together', run: listServices },
  {
    name: 'features read',
    summary: 'the features of one entity as they are served',
    arguments: [{ name: 'service', doc: 'a feature service; or name features with --feature', optional: true }],
    options: {
      key: { value: 'NAME=VALUE', doc: 'a join key, such as origin=ATL', many: true, required: true },
      feature: { value: 'VIEW:FEATURE', doc: 'one feature', many: true },
      'as-of': { value: 'TIME', doc: 'judge ages at this time; default now' },
    },
    run: readFeatures,
  },
  { name: 'datasets list', summary: 'the training sets, newest first', run: listDatasets },
]

async function listEntities(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const entities = await allPages(
    (pageToken) => slipway.features.listEntities({ pageToken }),
    (page) => page.entities,
  )
  showList(invocation, EntitySchema, entities, {
    header: ['entity', 'join key', 'type', 'description'],
    row: ({ name, joinKey, type, description }) => [shortId(name), joinKey, enumText(ValueType, type), description],
  })
}

async function listViews(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const views = await allPages(
    (pageToken) => slipway.features.listFeatureViews({ pageToken }),
    (page) => page.featureViews,
  )
  showList(invocation, FeatureViewSchema, views, {
    header: ['view', 'entities', 'features', 'ttl', 'digest'],
    row: (view) => [
      shortId(view.name),
      view.entities.map(shortId).join(' '),
      String(view.features.length),
      ttlText(view),
      view.digest,
    ],
  })
}

async function getView(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const view = words.text('view')
  const name = view.startsWith('featureViews/') ? view : `featureViews/${view}`
  showMessage(invocation, FeatureViewSchema, await slipway.features.getFeatureView({ name }), (found) =>
    [
      fields([
        ['view', shortId(found.name)],
        ['description', found.description],
        ['entities', found.entities.map(shortId).join(' ')],
        ['ttl', ttlText(found)],
        ['digest', found.digest],
        ['created', momentText(found.createTime)],
      ]),
      '\n',
      table(
        ['feature', 'type', 'description'],
        found.features.map(({ name, type, description }) => [name, enumText(ValueType, type), description]),
      ),
    ].join(''),
  )
}

async function listServices(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const services = await allPages(
    (pageToken) => slipway.features.listFeatureServices({ pageToken }),
    (page) => page.featureServices,
  )
  showList(invocation, FeatureServiceSchema, services, {
    header: ['service', 'features', 'digest', 'created'],
    row: ({ name, features, digest, createTime }) => [
      shortId(name),
      String(features.length),
      digest,
      momentText(createTime),
    ],
  })
}

async function readFeatures(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const asOf = words.optional('as-of')
  const answer = await slipway.features.getOnlineFeatures({
    selection: readSelection(words.optional('service'), words.many('feature')),
    entityRows: [{ keys: readValues('key', words.many('key')) }],
    ...(asOf === undefined ? {} : { asOf: parseMoment('--as-of', asOf, new Date()) }),
  })
  showMessage(invocation, GetOnlineFeaturesResponseSchema, answer, describeAnswer)
}

function readSelection(service: string | undefined, features: readonly string[]) {
  if ((service === undefined) === (features.length === 0)) {
    throw new UsageError('"slipway features read" needs either a feature service or --feature VIEW:FEATURE')
  }
  if (service === undefined) return { case: 'features' as const, value: { features: [...features] } }
  const name = service.startsWith('featureServices/') ? service : `featureServices/${service}`
  return { case: 'featureService' as const, value: name }
}

async function listDatasets(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const datasets = await allPages(
    (pageToken) => slipway.features.listDatasets({ pageToken }),
    (page) => page.datasets,
  )
  showList(invocation, DatasetSchema, datasets, {
    header: ['dataset', 'rows', 'features', 'made'],
    row: ({ digest, rowCount, featureService, createTime }) => [
      digest,
      countText(rowCount),
      shortId(featureService),
      momentText(createTime),
    ],
  })
}

function describeAnswer({ features, types, vectors }: GetOnlineFeaturesResponse): string {
  const [vector] = vectors
  if (vector === undefined) return 'none\n'
  const values = unpack(types, vector)
  const rows = features.map((feature, column) => [
    feature,
    values[column] ?? '',
    enumText(FeatureStatus, vector.statuses[column] ?? FeatureStatus.UNSPECIFIED),
    microsText(vector.eventTimesMicros[column] ?? 0n),
  ])
  return table(['feature', 'value', 'status', 'event time'], rows)
}

/** Columns are packed by type: a column's value stands at its rank among the columns of its type. */
function unpack(types: readonly ValueType[], vector: FeatureVector): string[] {
  const ranks = { doubles: 0, int64s: 0, strings: 0, bytes: 0 }
  return types.map((type, column) => {
    const text = textOf(type, vector, ranks)
    return vector.statuses[column] === FeatureStatus.PRESENT ? text : ''
  })
}

function textOf(
  type: ValueType,
  vector: FeatureVector,
  ranks: Record<'doubles' | 'int64s' | 'strings' | 'bytes', number>,
): string {
  switch (type) {
    case ValueType.DOUBLE:
      return numberText(vector.doubles[ranks.doubles++] ?? Number.NaN)
    case ValueType.STRING:
      return vector.strings[ranks.strings++] ?? ''
    case ValueType.BYTES:
      return Buffer.from(vector.bytesValues[ranks.bytes++] ?? []).toString('base64')
    case ValueType.TIMESTAMP:
      return microsText(vector.int64s[ranks.int64s++] ?? 0n)
    case ValueType.BOOL:
      return vector.int64s[ranks.int64s++] === 1n ? 'true' : 'false'
    default:
      return String(vector.int64s[ranks.int64s++] ?? '')
  }
}

function microsText(micros: bigint): string {
  return micros === 0n
    ? ''
    : momentText({ $typeName: 'google.protobuf.Timestamp', seconds: micros / 1_000_000n, nanos: 0 })
}

function ttlText({ ttl }: Pick<FeatureView, 'ttl'>): string {
  const seconds = Number(ttl?.seconds ?? 0n)
  if (seconds === 0) return 'any age'
  return seconds % 3600 === 0 ? `${seconds / 3600} h` : `${seconds} s`
}

function shortId(name: string): string {
  return name.replace(/^(entities|featureViews|featureServices)\//, '')
}
