/** "15 minutes late or more?": trains on the training weeks and measures on the week after them. */
import { treeEnsembleModel } from '@slipway/onnx'
import { aucRoc, logLoss } from '@slipway/stats'
import { type BoostingOptions, predictBoostedTrees } from './boosting.ts'
import { modelColumns } from './definitions.ts'
import { fitOnThread } from './fit.ts'
import type { TrainingSummary } from './summary.ts'
import { type FlightRows, rowsBetween, type TrainingSet } from './training-set.ts'
import type { Upstream } from './upstream.ts'

/** Parameters of the training, kept in the version's lineage. */
export const trainingParameters: Omit<BoostingOptions, 'onProgress' | 'seed'> = {
  trees: 90,
  maxDepth: 5,
  learningRate: 0.12,
  minLeafHessian: 20,
  lambda: 1,
  rowShare: 0.8,
}

/** A trained model and what it was trained and measured on. */
export interface TrainedModel {
  readonly onnx: Uint8Array
  readonly summary: TrainingSummary
  readonly trainingRows: FlightRows
  /** The model's answers to the training rows. */
  readonly trainingProbabilities: Float64Array
  readonly heldOutRows: FlightRows
}

/** Where the training weeks start, and where the held-out week after them starts and ends. */
export interface TrainingPeriod {
  readonly fromMicros: bigint
  readonly heldOutFromMicros: bigint
  readonly toMicros: bigint
}

/** What `trainModel` needs. */
export interface TrainingOptions {
  readonly upstream: Pick<Upstream, 'flights' | 'baseRates'>
  readonly set: TrainingSet
  readonly period: TrainingPeriod
  readonly seed: number
  readonly onProgress: (done: number) => void
}

/** Fits on the rows before the held-out week and measures on that week, beside the base rate by hour and route. */
export async function trainModel(options: TrainingOptions): Promise<TrainedModel> {
  const { upstream, set, period, seed } = options
  const trainingRows = rowsBetween(set.rows, period.fromMicros, period.heldOutFromMicros)
  const heldOutRows = rowsBetween(set.rows, period.heldOutFromMicros, period.toMicros)
  const fit = { ...trainingParameters, seed }
  const model = await fitOnThread(trainingRows.matrix, trainingRows.labels, fit, options.onProgress)
  const probabilities = predictBoostedTrees(model, heldOutRows.matrix)
  const baseRate = await upstream.baseRates(period.fromMicros, period.heldOutFromMicros)
  const heldOut = { ...set.query, fromMicros: period.heldOutFromMicros, toMicros: period.toMicros }
  const scored = Array.from(probabilities, (score, row) => ({ score, label: heldOutRows.labels[row] ?? 0 }))
  const baseline = (await upstream.flights(heldOut)).map((flight) => ({ score: baseRate(flight), label: flight.late }))
  return {
    onnx: treeEnsembleModel({
      trees: model.trees,
      featureCount: modelColumns.length,
      base: model.bias,
      name: 'flight_delay',
    }),
    summary: {
      rows: trainingRows.matrix.rows,
      datasetDigest: set.dataset.digest,
      auc: measured(aucRoc(scored)),
      baselineAuc: measured(aucRoc(baseline)),
      logLoss: measured(logLoss(scored)),
      baselineLogLoss: measured(logLoss(baseline)),
    },
    trainingRows,
    trainingProbabilities: predictBoostedTrees(model, trainingRows.matrix),
    heldOutRows,
  }
}

function measured(value: number | undefined): number {
  if (value === undefined) throw new Error('the held-out week has flights of one kind only')
  return value
}
