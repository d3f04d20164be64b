/** The names of everything that the example makes, and how features become the columns of the model's tensor. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  type FeatureBindingSchema,
  FeatureSource,
  FeatureType,
  MissingPolicy,
  type OutputBindingSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { type UpstreamView, viewColumns } from './upstream.ts'

/** The model. */
export const modelName = 'models/flight-delay'

/** The alias that says which version is in production. */
export const championAlias = `${modelName}/aliases/champion`

/** The endpoint that callers use. */
export const endpointName = 'endpoints/flight-delay'

/** The monitor that watches it. */
export const monitorName = 'monitors/flight-delay'

/** The features that the model reads together. */
export const featureServiceName = 'featureServices/flight-delay'

/** The join key of each view: which entity a row belongs to. */
export const viewKeys = {
  origin_stats: 'origin',
  destination_stats: 'destination',
  route_history: 'route',
  slot_history: 'slot',
} as const satisfies Record<UpstreamView, string>

/** How old a view's row may be: slow views are published daily or weekly. */
export const viewTtlHours = {
  origin_stats: 12,
  destination_stats: 12,
  route_history: 72,
  slot_history: 8 * 24,
} as const satisfies Record<UpstreamView, number>

/** The views, in the order of the model's columns. */
export const views: readonly UpstreamView[] = ['origin_stats', 'destination_stats', 'route_history', 'slot_history']

/** Features that the caller sends with the request. */
export const requestFeatures = ['distance', 'departure_hour'] as const

/** Features of the feature store, `view` and `feature`, in the order of the model's columns. */
export const storedFeatures = views.flatMap((view) => viewColumns[view].map((feature) => ({ view, feature })))

/** All columns of the model's input tensor, in order. */
export const modelColumns: readonly string[] = [...requestFeatures, ...storedFeatures.map(({ feature }) => feature)]

const inputTensor = 'features'

/** How features become columns. */
export const featureBindings: readonly MessageInitShape<typeof FeatureBindingSchema>[] = modelColumns.map(
  (feature, column) => {
    const stored = storedFeatures.find((candidate) => candidate.feature === feature)
    return {
      feature,
      type: FeatureType.DOUBLE,
      input: inputTensor,
      column,
      ...(stored === undefined
        ? { source: FeatureSource.REQUEST, missingPolicy: MissingPolicy.REFUSE }
        : {
            source: FeatureSource.FEATURE_STORE,
            reference: `${stored.view}:${stored.feature}`,
            missingPolicy: MissingPolicy.NAN,
          }),
    }
  },
)

/** How the output is named. */
export const outputBindings: readonly MessageInitShape<typeof OutputBindingSchema>[] = [
  { output: 'probability', tensor: 'probability', column: 0 },
]
