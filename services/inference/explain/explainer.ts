/**
 * Explains rows: which hybrids are needed is decided in `@slipway/stats`, how they are answered in `evaluator.ts`.
 *
 * Each row is answered twice before anything else: as it came, and put together from its cells like any hybrid. What is
 * explained is the second answer; what the attributions leave open of the first is the additivity residual, so that a model
 * that does not answer the same row the same twice is found out, whatever the reason.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { AttributionMethod, type Baseline } from '@slipway/proto/slipway/inference/v1/explain_service'
import { Code, Failure } from '@slipway/rpc'
import {
  createRandom,
  exactEvaluations,
  exactShapley,
  type ShapleyGame,
  type ShapleySteps,
  type ShapleyValues,
  sampledShapley,
} from '@slipway/stats'
import type { Background } from './baseline.ts'
import { Evaluator, type EvaluatorOptions, type HybridSources, valueClasses } from './evaluator.ts'
import { compare } from './hybrids.ts'
import type { Player } from './players.ts'
import { type RowTable, tensorsOf } from './row-table.ts'

/** Hybrids of one row unless the request says otherwise: all coalitions of twelve features with 64 background rows. */
export const DEFAULT_MAX_EVALUATIONS = 2 ** 18
/** The default target of sampling, as a share of the sum of the attributions' sizes. */
const RELATIVE_TARGET = 0.01
/** Most comparisons of a row's feature with a background row's in one request. */
const MAX_COMPARISONS = 2 ** 21
/** How far a prediction may be from base value and attributions: batching and rounding stay far below. */
const RESIDUAL_TOLERANCE = { absolute: 1e-5, relative: 1e-4 }

/** What is explained, against what, and how much may be spent. */
export interface ExplainTask {
  readonly table: RowTable
  readonly background: Background
  readonly players: readonly Player[]
  readonly evaluate: EvaluatorOptions
  readonly maxEvaluations: number
  readonly maxBackgroundRows: number
  readonly seed: bigint
  readonly targetStandardError: number | undefined
}

/** Why one row is answered as it is. */
export interface RowExplanation {
  readonly prediction: number
  readonly attributions: number[]
  readonly standardErrors: number[]
  readonly additivityResidual: number
  readonly evaluations: bigint
  readonly method: AttributionMethod
}

/** The explanations of all rows. */
export interface Explained {
  readonly baseline: Baseline
  readonly backgroundRows: number
  readonly baseValue: number
  readonly explanations: readonly RowExplanation[]
}

/** Explains the rows of a table. Throws INVALID_ARGUMENT when too little may be spent, FAILED_PRECONDITION about the model. */
export async function explainRows(task: ExplainTask): Promise<Explained> {
  const { table, background, players, evaluate } = task
  const evaluator = new Evaluator(evaluate)
  const available = Math.min(background.table.rows, task.maxBackgroundRows)
  checkSize(table.rows, available, players.length)
  const answeredAsCame = await answerTable(evaluator, table, evaluate)
  const rows = await backgroundRowsFor(task, available)
  const classes = valueClasses(background.table, rows, players)
  const predictions = await backgroundPredictions(task, evaluator, rows, classes)
  const base = predictions.reduce((sum, value) => sum + value, 0) / rows
  const explanations: RowExplanation[] = []
  for (const [row, asCame] of answeredAsCame.entries()) {
    const sources = { explained: { table, row }, background: background.table, players, classes }
    const explanation = await explainRow(task, evaluator, sources, predictions)
    explanations.push(checked(asCame, base, explanation))
  }
  return { baseline: background.kind, backgroundRows: rows, baseValue: base, explanations }
}

function checkSize(rows: number, backgroundRows: number, features: number): void {
  if (rows * backgroundRows * features <= MAX_COMPARISONS) return
  const product = `${rows} rows, ${backgroundRows} background rows and ${features} features`
  throw Failure.invalid('options.background_rows', `${product} are together more than ${MAX_COMPARISONS}`)
}

async function answerTable(evaluator: Evaluator, table: RowTable, { served }: EvaluatorOptions): Promise<number[]> {
  const answers = await evaluator.answerRows(tensorsOf(table), table.rows)
  const index = answers.findIndex((answer) => !Number.isFinite(answer))
  if (index < 0) return answers
  throw notFinite(`the answer of ${served.name} to row ${index}`)
}

/** As many background rows as the budget allows: all when every row can be explained exactly, or sampled twice for each. */
async function backgroundRowsFor(task: ExplainTask, available: number): Promise<number> {
  const { table, background, players, maxEvaluations } = task
  let isExact = true
  for (let row = 0; row < table.rows && isExact; row++) {
    await turn()
    const differs = compare({ table, row }, background.table, available, players)
    isExact = exactEvaluations(gameOf(task, differs, 0, zeros(available))) <= maxEvaluations
  }
  if (isExact) return available
  const each = 4 * (players.length - 1)
  const affordable = Math.min(available, Math.floor(maxEvaluations / each))
  if (affordable >= 1) return affordable
  const message = `must be at least ${each} to explain ${players.length} features`
  throw Failure.invalid('options.max_evaluations', message)
}

/** Answers to the background rows that are compared with, from the explanation before where there was one. */
async function backgroundPredictions(
  { background, evaluate, players }: ExplainTask,
  evaluator: Evaluator,
  rows: number,
  classes: Uint16Array | undefined,
): Promise<readonly number[]> {
  const { name } = evaluate.target
  const known = background.predictions.get(name)
  if (known !== undefined && known.length >= rows) return known.slice(0, rows)
  const hybrids = {
    backgrounds: Uint32Array.from({ length: rows }, (_, row) => row),
    coalitions: new Uint8Array(rows * players.length),
  }
  const sources = { explained: { table: background.table, row: 0 }, background: background.table, players, classes }
  const answers = [...(await evaluator.answerHybrids(sources, hybrids))]
  if (answers.some((answer) => !Number.isFinite(answer))) throw notFinite(`an answer to the background rows`)
  background.predictions.set(name, answers)
  return answers
}

async function explainRow(
  task: ExplainTask,
  evaluator: Evaluator,
  sources: HybridSources,
  backgroundAnswers: readonly number[],
): Promise<RowExplanation> {
  const { players, background, maxEvaluations } = task
  const before = evaluator.evaluations
  const whole = { backgrounds: new Uint32Array(1), coalitions: new Uint8Array(players.length).fill(1) }
  const [prediction = Number.NaN] = await evaluator.answerHybrids(sources, whole)
  const differs = compare(sources.explained, background.table, backgroundAnswers.length, players)
  const game = gameOf(task, differs, prediction, backgroundAnswers)
  const isExact = exactEvaluations(game) <= maxEvaluations
  const steps = isExact ? exactShapley(game) : sampledShapley(game, samplingOptions(task, sources.explained.row))
  const { values, standardErrors } = await drive(steps, evaluator, sources)
  return {
    prediction,
    attributions: [...values],
    standardErrors: [...standardErrors],
    additivityResidual: 0,
    // The row as it came was answered, too.
    evaluations: BigInt(evaluator.evaluations - before + 1),
    method: isExact ? AttributionMethod.EXACT : AttributionMethod.SAMPLED,
  }
}

async function drive(steps: ShapleySteps, evaluator: Evaluator, sources: HybridSources): Promise<ShapleyValues> {
  let next = steps.next()
  while (next.done !== true) next = steps.next(await evaluator.answerHybrids(sources, next.value))
  return next.value
}

function samplingOptions({ seed, maxEvaluations, targetStandardError }: ExplainTask, row: number) {
  const relative = (values: Float64Array) => RELATIVE_TARGET * values.reduce((sum, value) => sum + Math.abs(value), 0)
  return {
    random: createRandom(`explain:${seed}:${row}`),
    maxEvaluations,
    targetStandardError: targetStandardError === undefined ? relative : () => targetStandardError,
  }
}

function gameOf(
  { players }: ExplainTask,
  differs: Uint8Array,
  prediction: number,
  answers: ArrayLike<number>,
): ShapleyGame {
  return { features: players.length, differs, prediction, backgroundPredictions: answers }
}

/** Checks what came out against the answer to the row as it came. */
function checked(asCame: number, base: number, explanation: RowExplanation): RowExplanation {
  const sum = explanation.attributions.reduce((total, value) => total + value, base)
  const residual = asCame - sum
  if (!Number.isFinite(residual)) throw notFinite('an answer to a row between the explained one and the background')
  const { absolute, relative } = RESIDUAL_TOLERANCE
  if (Math.abs(residual) <= absolute + relative * Math.max(Math.abs(asCame), Math.abs(base)))
    return { ...explanation, prediction: asCame, additivityResidual: residual }
  const message = `the model answered the same row with ${asCame} and then so that attributions add up to ${sum}`
  throw new Failure(Code.FAILED_PRECONDITION, 'MODEL_NOT_DETERMINISTIC', message)
}

function notFinite(what: string): Failure {
  return new Failure(Code.FAILED_PRECONDITION, 'ANSWER_NOT_FINITE', `${what} is not a finite number`)
}

function zeros(length: number): Float64Array {
  return new Float64Array(length)
}
