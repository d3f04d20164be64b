/** "15 minutes late or more?": trains on the training weeks and measures on the week after them. */
import { treeEnsembleModel } from '@slipway/onnx'
import { aucRoc, logLoss } from '@slipway/stats'
import type { BoostingOptions } from './boosting.ts'
import { dayMicros, type TrainingPeriod } from './calendar.ts'
import { modelColumns } from './definitions.ts'
import { fitOnThread } from './fit.ts'
import type { TrainingSummary } from './summary.ts'
import { type FlightRows, rowsBetween, rowsWhere, type TrainingSet } from './training-set.ts'
import type { Upstream } from './upstream.ts'

/** Parameters of the training, kept in the version's lineage. */
export const trainingParameters: Omit<BoostingOptions, 'onProgress' | 'seed'> = {
  trees: 80,
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
  /**
   * The training rows with answers of models that had not seen them: what a model answers to its own training rows is
   * surer than what it answers later, and no measure of drift.
   */
  readonly answered: readonly AnsweredRows[]
  readonly heldOutRows: FlightRows
  /** The model's answers to them by the trainer's own arithmetic. */
  readonly heldOutProbabilities: Float64Array
}

/** Rows and a model's answers to them. */
export interface AnsweredRows {
  readonly rows: FlightRows
  readonly probabilities: Float64Array
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
  const answer = heldOutRows.matrix
  const { model, probabilities } = await fitOnThread(
    { matrix: trainingRows.matrix, labels: trainingRows.labels, options: fit, answer },
    (done) => options.onProgress(done / 2),
  )
  const answered = await answerOutOfFold(trainingRows, fit, (done) => options.onProgress(0.5 + done / 2))
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
    answered,
    heldOutRows,
    heldOutProbabilities: probabilities,
  }
}

/** Days with an even number are answered by a model of the odd ones, and the other way round. */
async function answerOutOfFold(
  rows: FlightRows,
  options: Omit<BoostingOptions, 'onProgress'>,
  onProgress: (done: number) => void,
): Promise<AnsweredRows[]> {
  const [even, odd] = [0n, 1n].map((fold) => rowsWhere(rows, (timeMicros) => (timeMicros / dayMicros) % 2n === fold))
  if (even === undefined || odd === undefined) return []
  const answered: AnsweredRows[] = []
  for (const [seen, unseen] of [
    [even, odd],
    [odd, even],
  ] as const) {
    const before = answered.length / 2
    const task = { matrix: seen.matrix, labels: seen.labels, options, answer: unseen.matrix }
    const { probabilities } = await fitOnThread(task, (done) => onProgress(before + done / 2))
    answered.push({ rows: unseen, probabilities })
  }
  return answered
}

function measured(value: number | undefined): number {
  if (value === undefined) throw new Error('the held-out week has flights of one kind only')
  return value
}
