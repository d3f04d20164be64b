/** What a gate measures and how it judges: pure, so that every rule is a row of a table in its test. */
import { create } from '@bufbuild/protobuf'
import {
  type Gate,
  type GateCheck,
  GateCheckSchema,
  Metric,
  type MetricRule,
} from '@slipway/proto/slipway/registry/v1/model'
import { aucRoc, brierScore, logLoss, type Scored } from '@slipway/stats'

/** What both versions answered to the golden set. */
export interface Answers {
  /** Primary output of the candidate, one a row; NaN for a row without an answer. */
  readonly candidate: Float64Array
  /** The same of the champion; undefined when there is none. */
  readonly champion: Float64Array | undefined
  /** One label a row, or none at all. */
  readonly labels: readonly number[]
}

/** Threshold at which a decision is positive when the gate names none. */
export const defaultDecisionThreshold = 0.5

const smallestDivisor = 1e-9

interface MetricKind {
  readonly name: string
  readonly higherIsBetter: boolean
  /** Whether scores must be probabilities. */
  readonly ofProbabilities: boolean
  measure(rows: readonly Scored[], threshold: number): number | undefined
}

const metricKinds: Readonly<Record<number, MetricKind>> = {
  [Metric.AUC]: { name: 'auc', higherIsBetter: true, ofProbabilities: false, measure: aucRoc },
  [Metric.LOG_LOSS]: { name: 'log_loss', higherIsBetter: false, ofProbabilities: true, measure: logLoss },
  [Metric.BRIER]: { name: 'brier', higherIsBetter: false, ofProbabilities: true, measure: brierScore },
  [Metric.ACCURACY]: { name: 'accuracy', higherIsBetter: true, ofProbabilities: false, measure: accuracy },
}

/** Holds the answers against every rule of the gate; the version passes when every check passed. */
export function judge(answers: Answers, gate: Gate): GateCheck[] {
  const threshold = gate.decisionThreshold ?? defaultDecisionThreshold
  return [
    answeredRows(answers.candidate),
    ...(answers.champion === undefined ? [] : tolerances(answers.candidate, answers.champion, gate, threshold)),
    ...gate.metrics.flatMap((rule) => metricChecks(rule, answers, threshold)),
  ]
}

function answeredRows(candidate: Float64Array): GateCheck {
  const answered = candidate.reduce((count, score) => count + (Number.isFinite(score) ? 1 : 0), 0)
  return check('finite_answer_share', '>=', candidate.length === 0 ? 0 : answered / candidate.length, 1)
}

function tolerances(candidate: Float64Array, champion: Float64Array, gate: Gate, threshold: number): GateCheck[] {
  const bounds = gate.tolerances
  if (bounds === undefined) return []
  const rows = candidate.length
  let absolute = 0
  let largest = 0
  let relative = 0
  let changed = 0
  for (let row = 0; row < rows; row++) {
    const ours = candidate[row] ?? Number.NaN
    const theirs = champion[row] ?? Number.NaN
    const difference = Math.abs(ours - theirs)
    absolute += difference
    largest = Math.max(largest, difference)
    relative += difference / Math.max(Math.abs(theirs), smallestDivisor)
    if (ours >= threshold !== theirs >= threshold) changed += 1
  }
  const measured: [rule: string, value: number, bound: number | undefined][] = [
    ['mean_absolute_difference', absolute / rows, bounds.meanAbsoluteDifference],
    ['max_absolute_difference', largest, bounds.maxAbsoluteDifference],
    ['mean_relative_difference', relative / rows, bounds.meanRelativeDifference],
    ['changed_decision_share', changed / rows, bounds.changedDecisionShare],
  ]
  return measured.flatMap(([rule, value, bound]) => (bound === undefined ? [] : [check(rule, '<=', value, bound)]))
}

function metricChecks(rule: MetricRule, answers: Answers, threshold: number): GateCheck[] {
  const kind = metricKinds[rule.metric]
  if (kind === undefined) return []
  const measure = (scores: Float64Array) => measureMetric(kind, scores, answers.labels, threshold)
  const candidate = measure(answers.candidate)
  const comparison = kind.higherIsBetter ? '>=' : '<='
  const checks: GateCheck[] = []
  if (rule.bound !== undefined) checks.push(check(kind.name, comparison, candidate, rule.bound))
  if (rule.margin !== undefined && answers.champion !== undefined) {
    const champion = measure(answers.champion)
    const bound = kind.higherIsBetter ? champion - rule.margin : champion + rule.margin
    checks.push(check(kind.name, comparison, candidate, bound, { champion, margin: rule.margin }))
  }
  return checks
}

/** The metric's value; NaN, which no bound admits, where it is not defined for these scores. */
function measureMetric(kind: MetricKind, scores: Float64Array, labels: readonly number[], threshold: number): number {
  const isUsable = kind.ofProbabilities ? (score: number) => score >= 0 && score <= 1 : Number.isFinite
  if (labels.length !== scores.length || !scores.every((score) => isUsable(score))) return Number.NaN
  const rows = labels.map((label, row) => ({ label, score: scores[row] ?? Number.NaN }))
  return kind.measure(rows, threshold) ?? Number.NaN
}

function accuracy(rows: readonly Scored[], threshold: number): number {
  return rows.filter(({ score, label }) => score >= threshold === label > 0).length / rows.length
}

function check(
  name: string,
  comparison: '<=' | '>=',
  measured: number,
  bound: number,
  against?: { readonly champion: number; readonly margin: number },
): GateCheck {
  const limit = against ? `champion ${comparison === '>=' ? '-' : '+'} ${against.margin}` : String(bound)
  // A measure that is not a number compares false, and so fails.
  const passed = comparison === '<=' ? measured <= bound : measured >= bound
  const rule = `${name} ${comparison} ${limit}`
  return create(GateCheckSchema, { rule, measured, bound, passed, ...(against && { champion: against.champion }) })
}
