/**
 * Interventional Shapley values of one row: how much each feature moved its answer away from the mean answer to a set of
 * background rows. The value of a coalition is the mean, over the background rows, of the answers to hybrids: the background
 * row with the coalition's features set to those of the explained row (Lundberg and Lee, 2017, with independence of the
 * features outside the coalition; Janzing et al., 2020, on why that is what a caller asks for).
 *
 * 1. Nothing here runs a model. The functions are generators: they hand out hybrids and take their answers, so that
 *    whoever drives them decides on batches, deadlines and order.
 * 2. The value is the mean of one game for each background row (the Shapley value is linear in the game). In a game only the
 *    features that differ are players: the others are dummies, which get nothing and cost nothing.
 * 3. The values add up to the answer minus the mean answer of the background, sampled or not: all contributions of one
 *    order of the features telescope. Only rounding is left.
 * 4. Hybrids of all features or none are never handed out: their answers are given.
 */

/** Most hybrids that are handed out at once, and most bytes of their coalitions, unless one background row alone has more. */
export const MAX_HYBRIDS = 4096
const MAX_COALITION_BYTES = 2 ** 18

/** The game of one explained row against its background rows. */
export interface ShapleyGame {
  /** Features, or groups of columns that count as one. */
  readonly features: number
  /** For each background row `features` bytes: 1 where the explained row has another value. */
  readonly differs: Uint8Array
  /** The answer to the explained row. */
  readonly prediction: number
  /** The answer to each background row. */
  readonly backgroundPredictions: ArrayLike<number>
}

/** Background rows in which the features of a coalition are those of the explained row. */
export interface Hybrids {
  /** The background row of each. */
  readonly backgrounds: Uint32Array
  /** For each hybrid `features` bytes: 1 where the feature is the explained row's. */
  readonly coalitions: Uint8Array
}

/** What came out. */
export interface ShapleyValues {
  /** One a feature, in the unit of the answer. */
  readonly values: Float64Array
  /** One a feature, of the sampling of orders; the background is taken as it is. 0 when exact. */
  readonly standardErrors: Float64Array
  /** Hybrids that were answered. */
  readonly evaluations: number
}

/** Hands out hybrids, takes as many answers in the same order, ends with the values. */
export type ShapleySteps = Generator<Hybrids, ShapleyValues, ArrayLike<number>>

/** The mean answer of the background: where the values start from. */
export function baseValue({ backgroundPredictions }: ShapleyGame): number {
  let sum = 0
  for (let index = 0; index < backgroundPredictions.length; index++) sum += backgroundPredictions[index] as number
  return sum / backgroundPredictions.length
}

/** For each background row the features that differ from the explained row's. */
export function allPlayers({ features, differs, backgroundPredictions }: ShapleyGame): number[][] {
  if (differs.length !== features * backgroundPredictions.length)
    throw new RangeError(`${differs.length} comparisons of ${features} features`)
  return Array.from({ length: backgroundPredictions.length }, (_, background) => {
    const players: number[] = []
    for (let feature = 0; feature < features; feature++)
      if (differs[background * features + feature] === 1) players.push(feature)
    return players
  })
}

/** Hybrids to be filled in. */
export function emptyHybrids(count: number, features: number): Hybrids {
  return { backgrounds: new Uint32Array(count), coalitions: new Uint8Array(count * features) }
}

/** Runs of background rows whose hybrids are handed out together. */
export function* parts(
  games: readonly number[][],
  features: number,
  countOf: (players: readonly number[]) => number,
): Generator<{ readonly start: number; readonly end: number; readonly count: number }> {
  const limit = Math.min(MAX_HYBRIDS, MAX_COALITION_BYTES / features)
  let start = 0
  let count = 0
  for (const [index, players] of games.entries()) {
    const more = countOf(players)
    if (index > start && count + more > limit) {
      yield { start, end: index, count }
      start = index
      count = 0
    }
    count += more
  }
  if (start < games.length) yield { start, end: games.length, count }
}
