/** The upstream's features in the feature store: defined once, then published as they come. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import type { FeatureService } from '@slipway/proto/slipway/features/v1/feature_view'
import { type FeatureRowSchema, ValueType } from '@slipway/proto/slipway/features/v1/value'
import type { Client } from '@slipway/rpc'
import { featureServiceName, storedFeatures, viewKeys, views, viewTtlHours } from './definitions.ts'
import { untilAnswered } from './retry.ts'
import { publishDelayMicros, type Upstream, type UpstreamRow, type UpstreamView, viewColumns } from './upstream.ts'

type FeatureStore = Client<typeof FeatureStoreService>

const rowsPerCall = 2_000

/** Creates entities, views and the feature service of the model. */
export async function defineFeatures(store: FeatureStore): Promise<FeatureService> {
  for (const view of views) {
    const key = viewKeys[view]
    await store.createEntity({ entity: { name: `entities/${key}`, joinKey: key, type: ValueType.STRING } })
    await store.createFeatureView({
      featureView: {
        name: `featureViews/${view}`,
        entities: [`entities/${key}`],
        features: viewColumns[view].map((name) => ({ name, type: ValueType.DOUBLE })),
        ttl: { seconds: BigInt(viewTtlHours[view]) * 3600n },
      },
    })
  }
  return await store.createFeatureService({
    featureService: {
      name: featureServiceName,
      features: storedFeatures.map(({ view, feature }) => `${view}:${feature}`),
    },
  })
}

/** Publishes the rows of all views whose windows end in `[fromMicros, toMicros)`; gives how many there were. */
export async function publishFeatures(
  upstream: Pick<Upstream, 'featureRows'>,
  store: Pick<FeatureStore, 'writeFeatures'>,
  fromMicros: bigint,
  toMicros: bigint,
  onProgress: (rows: number) => void = () => undefined,
): Promise<number> {
  let published = 0
  for (const view of views) {
    const rows = await upstream.featureRows(view, fromMicros, toMicros)
    for (let at = 0; at < rows.length; at += rowsPerCall) {
      const batch = rows.slice(at, at + rowsPerCall).map((row) => featureRow(view, row))
      const { rejected } = await untilAnswered(() => store.writeFeatures({ rows: batch }), 60_000)
      if (rejected[0] !== undefined)
        throw new Error(`${view}: row ${rejected[0].index} was refused: ${rejected[0].reason}`)
      published += batch.length
      onProgress(published)
    }
  }
  return published
}

function featureRow(view: UpstreamView, row: UpstreamRow): MessageInitShape<typeof FeatureRowSchema> {
  return {
    featureView: `featureViews/${view}`,
    entityKeys: { [viewKeys[view]]: { kind: { case: 'stringValue', value: row.key } } },
    eventTime: timestampFromMs(Number(row.eventMicros / 1000n)),
    createdTime: timestampFromMs(Number((row.eventMicros + publishDelayMicros) / 1000n)),
    values: Object.fromEntries(
      viewColumns[view].map((name, index) => [
        name,
        { kind: { case: 'doubleValue', value: row.values[index] ?? Number.NaN } },
      ]),
    ),
  }
}
