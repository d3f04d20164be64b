/** Shapley values of the game of `shapley-game.ts` from sampled orders of the features, with standard errors. */
import type { Random } from './random.ts'
import { allPlayers, emptyHybrids, type Hybrids, parts, type ShapleyGame, type ShapleySteps } from './shapley-game.ts'

/** How long values are sampled. */
export interface SamplingOptions {
  readonly random: Random
  /** Hybrids that may be used. */
  readonly maxEvaluations: number
  /** Ends when no standard error is larger than this; asked with the values so far. */
  readonly targetStandardError: (values: Float64Array) => number
}

/** Hybrids that one round of sampling takes: an order of the players and its reverse, for each background row. */
export function roundEvaluations(game: ShapleyGame): number {
  return allPlayers(game).reduce((sum, players) => sum + pairCount(players.length), 0)
}

/**
 * Values from sampled orders of the features (Castro et al., 2009; Štrumbelj and Kononenko, 2014). Each order is used with
 * its reverse, which takes out much of the variance (Mitchell et al., 2022), and every background row gets as many, so that
 * what the background rows differ in is no noise: the standard errors are those of a stratified mean of pairs. There are
 * two rounds at least, whatever `maxEvaluations` says; the number of rounds doubles until the target is met.
 */
export function* sampledShapley(game: ShapleyGame, options: SamplingOptions): ShapleySteps {
  const games = allPlayers(game)
  const round = roundEvaluations(game)
  const strata = new Strata(games.length, game.features)
  let evaluations = 0
  let rounds = 0
  for (let wanted = 2; ; wanted *= 2) {
    while (rounds < wanted && (rounds < 2 || evaluations + round <= options.maxEvaluations)) {
      yield* sampleRound(game, games, options.random, strata)
      evaluations += round
      rounds++
    }
    const result = strata.estimate(rounds)
    const largest = result.standardErrors.reduce((a, b) => Math.max(a, b), 0)
    const isSpent = round === 0 || evaluations + round > options.maxEvaluations
    if (isSpent || largest <= options.targetStandardError(result.values)) return { ...result, evaluations }
  }
}

function* sampleRound(
  game: ShapleyGame,
  games: readonly number[][],
  random: Random,
  strata: Strata,
): Generator<Hybrids, void, ArrayLike<number>> {
  const { features, prediction, backgroundPredictions } = game
  for (const part of parts(games, features, (players) => pairCount(players.length))) {
    const hybrids = emptyHybrids(part.count, features)
    const orders: number[][] = []
    let at = 0
    for (let background = part.start; background < part.end; background++) {
      const order = random.shuffle([...(games[background] as number[])])
      orders.push(order)
      for (const walked of order.length > 1 ? [order, order.toReversed()] : []) {
        for (let length = 1; length < walked.length; length++, at++) {
          hybrids.backgrounds[at] = background
          // Each coalition is the one before and one more.
          if (length > 1) hybrids.coalitions.copyWithin(at * features, (at - 1) * features, at * features)
          hybrids.coalitions[at * features + (walked[length - 1] as number)] = 1
        }
      }
    }
    const answers = part.count === 0 ? [] : yield hybrids
    at = 0
    for (const [index, order] of orders.entries()) {
      const background = part.start + index
      const contributions = new Float64Array(features)
      for (const walked of order.length > 1 ? [order, order.toReversed()] : [order, order]) {
        let before = backgroundPredictions[background] as number
        for (const [place, feature] of walked.entries()) {
          const after = place === walked.length - 1 ? prediction : (answers[at++] as number)
          contributions[feature] = (contributions[feature] as number) + (after - before) / 2
          before = after
        }
      }
      strata.add(background, contributions)
    }
  }
}

/** Means and squared deviations of the pairs' contributions, a stratum for each background row (Welford, 1962). */
class Strata {
  readonly #features: number
  readonly #counts: Uint32Array
  readonly #means: Float64Array
  readonly #squares: Float64Array

  constructor(strata: number, features: number) {
    this.#features = features
    this.#counts = new Uint32Array(strata)
    this.#means = new Float64Array(strata * features)
    this.#squares = new Float64Array(strata * features)
  }

  add(stratum: number, contributions: Float64Array): void {
    const count = (this.#counts[stratum] as number) + 1
    this.#counts[stratum] = count
    for (let feature = 0; feature < this.#features; feature++) {
      const at = stratum * this.#features + feature
      const value = contributions[feature] as number
      const delta = value - (this.#means[at] as number)
      const mean = (this.#means[at] as number) + delta / count
      this.#means[at] = mean
      this.#squares[at] = (this.#squares[at] as number) + delta * (value - mean)
    }
  }

  estimate(rounds: number): { values: Float64Array; standardErrors: Float64Array } {
    const values = new Float64Array(this.#features)
    const standardErrors = new Float64Array(this.#features)
    const strata = this.#counts.length
    for (let at = 0; at < this.#means.length; at++) {
      const feature = at % this.#features
      values[feature] = (values[feature] as number) + (this.#means[at] as number) / strata
      standardErrors[feature] = (standardErrors[feature] as number) + (this.#squares[at] as number)
    }
    const scale = strata * strata * (rounds - 1) * rounds
    return { values, standardErrors: standardErrors.map((sum) => Math.sqrt(sum / scale)) }
  }
}

/** Hybrids of one order and its reverse, without the ends. */
function pairCount(players: number): number {
  return 2 * Math.max(0, players - 1)
}
