/** Rows of the training set that a version carries with it, so that its predictions can be explained against them. */
import { create, toBinary } from '@bufbuild/protobuf'
import { BackgroundRowsSchema } from '@slipway/proto/slipway/registry/v1/background'
import type { TensorSpec } from '@slipway/proto/slipway/registry/v1/model'
import { createRandom } from '@slipway/stats'
import { type BoundColumn, FeatureValueError, featureTensors } from './feature-tensors.ts'
import type { TrainingRow } from './reference-distributions.ts'

/** Where a version's background rows lie among its files. */
export const BACKGROUND_FILE = 'explain/background.binpb'

const DEFAULT_ROWS = 64

/** What background rows are drawn from. */
export interface BackgroundSource {
  /** The model's inputs, as its graph declares them. */
  readonly inputs: readonly Pick<TensorSpec, 'name' | 'datatype' | 'shape'>[]
  /** Which feature goes to which column, as the version is registered. */
  readonly features: readonly BoundColumn[]
  /** The rows of the training set, in any order. */
  readonly rows: Iterable<TrainingRow> | AsyncIterable<TrainingRow>
  /** How many are drawn, default 64: an exact explanation runs up to 2^features rows for each. */
  readonly maxRows?: number
  /** The same seed and rows, the same draw. */
  readonly seed: number | string
}

/**
 * Draws rows of a training set, each as likely as any other, in random order: the content of {@link BACKGROUND_FILE}. Rows
 * that the version would refuse to predict for are passed over. Throws a RangeError when no row is left.
 */
export async function drawBackground(source: BackgroundSource): Promise<Uint8Array> {
  const { inputs, features, maxRows = DEFAULT_ROWS } = source
  const random = createRandom(`background:${source.seed}`)
  const drawn: TrainingRow['values'][] = []
  let seen = 0
  for await (const { values } of source.rows) {
    if (!isComplete(source, values)) continue
    // Reservoir sampling (Vitter, 1985, algorithm R).
    const place = seen < maxRows ? seen : random.integer(seen + 1)
    if (place < maxRows) drawn[place] = values
    seen++
  }
  if (drawn.length === 0) throw new RangeError('there is no row to explain predictions with')
  const tensors = featureTensors(inputs, features, random.shuffle(drawn))
  return toBinary(
    BackgroundRowsSchema,
    create(BackgroundRowsSchema, { inputs: tensors.map(({ shape, ...tensor }) => ({ ...tensor, shape: [...shape] })) }),
  )
}

function isComplete({ inputs, features }: BackgroundSource, values: TrainingRow['values']): boolean {
  if (features.every(({ feature }) => values[feature] !== undefined && values[feature] !== null)) return true
  try {
    featureTensors(inputs, features, [values])
    return true
  } catch (error) {
    if (error instanceof FeatureValueError) return false
    throw error
  }
}
