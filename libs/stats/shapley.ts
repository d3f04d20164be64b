/** Exact Shapley values of the game of `shapley-game.ts`, from all coalitions. */
import { allPlayers, emptyHybrids, parts, type ShapleyGame, type ShapleySteps } from './shapley-game.ts'

/** Most players whose coalitions are enumerated: 2^12 each background row. */
export const MAX_EXACT_PLAYERS = 12
/** Hybrids that exact values take; Infinity when a background row has more than {@link MAX_EXACT_PLAYERS} players. */
export function exactEvaluations(game: ShapleyGame): number {
  let count = 0
  for (const players of allPlayers(game)) {
    if (players.length > MAX_EXACT_PLAYERS) return Number.POSITIVE_INFINITY
    count += coalitionCount(players.length)
  }
  return count
}

/**
 * Exact values from all coalitions (Shapley, 1953): φ(j) = Σ over S without j of |S|! (n - |S| - 1)! / n! (v(S ∪ j) - v(S)).
 * A RangeError when there are more than {@link MAX_EXACT_PLAYERS} players.
 */
export function* exactShapley(game: ShapleyGame): ShapleySteps {
  const { features } = game
  const games = allPlayers(game)
  if (games.some((players) => players.length > MAX_EXACT_PLAYERS)) throw new RangeError('too many players')
  const values = new Float64Array(features)
  let evaluations = 0
  for (const part of parts(games, features, (players) => coalitionCount(players.length))) {
    const hybrids = emptyHybrids(part.count, features)
    let at = 0
    for (let background = part.start; background < part.end; background++) {
      const players = games[background] as number[]
      const full = 2 ** players.length - 1
      for (let mask = 1; mask < full; mask++) {
        hybrids.backgrounds[at] = background
        for (let bit = 0; bit < players.length; bit++) {
          if ((mask & (1 << bit)) !== 0) hybrids.coalitions[at * features + (players[bit] as number)] = 1
        }
        at++
      }
    }
    const answers = part.count === 0 ? [] : yield hybrids
    evaluations += part.count
    at = 0
    for (let background = part.start; background < part.end; background++) {
      const players = games[background] as number[]
      const worth = coalitionWorths(game, background, players.length, answers, at)
      at += coalitionCount(players.length)
      addExact(values, players, worth, games.length)
    }
  }
  return { values, standardErrors: new Float64Array(features), evaluations }
}

/** Coalitions without the empty and the full one. */
function coalitionCount(players: number): number {
  return Math.max(0, 2 ** players - 2)
}

/** What each coalition of a background row's players is worth, by its mask. */
function coalitionWorths(
  { prediction, backgroundPredictions }: ShapleyGame,
  background: number,
  players: number,
  answers: ArrayLike<number>,
  at: number,
): Float64Array {
  const worth = new Float64Array(2 ** players)
  for (let mask = 1; mask < worth.length - 1; mask++) worth[mask] = answers[at + mask - 1] as number
  worth[0] = backgroundPredictions[background] as number
  if (players > 0) worth[worth.length - 1] = prediction
  return worth
}

function addExact(values: Float64Array, players: readonly number[], worth: Float64Array, games: number): void {
  const weights = coalitionWeights(players.length)
  for (const [bit, feature] of players.entries()) {
    let value = 0
    for (let mask = 0; mask < worth.length; mask++) {
      if ((mask & (1 << bit)) !== 0) continue
      value +=
        (weights[sizes[mask] as number] as number) * ((worth[mask | (1 << bit)] as number) - (worth[mask] as number))
    }
    values[feature] = (values[feature] as number) + value / games
  }
}

/** |S|! (n - |S| - 1)! / n! by |S|: one over n times the number of coalitions of that size without the player. */
function coalitionWeights(players: number): number[] {
  const weights: number[] = []
  let coalitions = 1
  for (let size = 0; size < players; size++) {
    weights.push(1 / (players * coalitions))
    coalitions = (coalitions * (players - 1 - size)) / (size + 1)
  }
  return weights
}

/** The number of members of each coalition. */
const sizes = Uint8Array.from({ length: 2 ** MAX_EXACT_PLAYERS })
for (let mask = 1; mask < sizes.length; mask++) sizes[mask] = (sizes[mask >> 1] as number) + (mask & 1)
