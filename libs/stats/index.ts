/** Statistics: distributions with exact tails, counts over frozen cells, two-sample tests, intervals, seeded chance. */

export type { BinEdges } from './cells.ts'
export {
  addCounts,
  binCellCount,
  binIndex,
  categoricalSpecialCells,
  categoryCellCount,
  categoryIndex,
  emptyCounts,
  numericSpecialCells,
  quantileBins,
  topCategories,
} from './cells.ts'
export {
  chiSquareCdf,
  chiSquareQuantile,
  chiSquareSf,
  chiSquareUpperQuantile,
  gammaSf,
  gammaUpperQuantile,
  logGammaSf,
  noncentralChiSquareCdf,
  noncentralChiSquareSf,
  noncentralityExceeding,
} from './chi-square.ts'
export { jensenShannon, populationStabilityIndex, totalVariation } from './divergences.ts'
export { gammaP, gammaQ, logGamma, logGammaQ } from './gamma.ts'
export { hash64, hashBucket, hashUnit, murmur128 } from './hash.ts'
export type { Interval } from './intervals.ts'
export { meanInterval, shareDifferenceInterval, wilsonInterval } from './intervals.ts'
export { normalCdf, normalQuantile, normalSf } from './normal.ts'
export type { Scored } from './performance.ts'
export { aucRoc, brierScore, logLoss } from './performance.ts'
export type { Random } from './random.ts'
export { createRandom, randomFrom } from './random.ts'
export type { CountedReference, CountedWindow, ReferenceOptions } from './reference.ts'
export { categoricalReference, numericReference, totalCounts } from './reference.ts'
export { exactEvaluations, exactShapley, MAX_EXACT_PLAYERS } from './shapley.ts'
export type { Hybrids, ShapleyGame, ShapleySteps, ShapleyValues } from './shapley-game.ts'
export { baseValue, MAX_HYBRIDS } from './shapley-game.ts'
export type { SamplingOptions } from './shapley-sampling.ts'
export { roundEvaluations, sampledShapley } from './shapley-sampling.ts'
export type { TwoSampleResult } from './two-sample.ts'
export {
  detectableEffect,
  effectInterval,
  effectOf,
  twoSampleChiSquare,
  twoSampleLikelihoodRatio,
} from './two-sample.ts'
