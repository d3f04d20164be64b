import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { GateSchema, Metric } from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { judge } from './judge.ts'

type GateInit = MessageInitShape<typeof GateSchema>

interface Case {
  readonly claim: string
  readonly candidate: number[]
  readonly champion?: number[]
  readonly labels?: number[]
  readonly gate: GateInit
  readonly rule: string
  readonly measured: number
  readonly passed: boolean
}

const right = [0.1, 0.4, 0.6, 0.9]
const wrong = [0.9, 0.6, 0.4, 0.1]
const labels = [0, 0, 1, 1]
const tolerances = (bounds: GateInit['tolerances']): GateInit => ({ tolerances: bounds ?? {} })
const metric = (kind: Metric, bound?: number, margin?: number): GateInit => ({
  metrics: [{ metric: kind, ...(bound !== undefined && { bound }), ...(margin !== undefined && { margin }) }],
})

const cases: Case[] = [
  {
    claim: 'a row without a finite answer fails',
    candidate: [0.1, Number.NaN, 0.3, Number.POSITIVE_INFINITY],
    gate: {},
    rule: 'finite_answer_share >= 1',
    measured: 0.5,
    passed: false,
  },
  {
    claim: 'answers to every row pass',
    candidate: right,
    gate: {},
    rule: 'finite_answer_share >= 1',
    measured: 1,
    passed: true,
  },
  {
    claim: 'the mean difference may be as large as its bound',
    candidate: [0.5, 1],
    champion: [0.25, 0.75],
    gate: tolerances({ meanAbsoluteDifference: 0.25 }),
    rule: 'mean_absolute_difference <= 0.25',
    measured: 0.25,
    passed: true,
  },
  {
    claim: 'the mean difference may not be larger',
    candidate: [0.5, 1],
    champion: [0.25, 0.5],
    gate: tolerances({ meanAbsoluteDifference: 0.25 }),
    rule: 'mean_absolute_difference <= 0.25',
    measured: 0.375,
    passed: false,
  },
  {
    claim: 'one wild row breaks the largest difference',
    candidate: [0, 0, 0, 1],
    champion: [0, 0, 0, 0],
    gate: tolerances({ maxAbsoluteDifference: 0.5 }),
    rule: 'max_absolute_difference <= 0.5',
    measured: 1,
    passed: false,
  },
  {
    claim: 'relative differences are of the champion',
    candidate: [2, 3],
    champion: [1, 4],
    gate: tolerances({ meanRelativeDifference: 0.7 }),
    rule: 'mean_relative_difference <= 0.7',
    measured: 0.625,
    passed: true,
  },
  {
    claim: 'a champion that answers 0 divides by 1e-9 and not by 0',
    candidate: [1e-9],
    champion: [0],
    gate: tolerances({ meanRelativeDifference: 1 }),
    rule: 'mean_relative_difference <= 1',
    measured: 1,
    passed: true,
  },
  {
    claim: 'a decision at the threshold is positive',
    candidate: [0.5, 0.5, 0.4, 0.4],
    champion: [0.5, 0.499, 0.4, 0.5],
    gate: tolerances({ changedDecisionShare: 0.4 }),
    rule: 'changed_decision_share <= 0.4',
    measured: 0.5,
    passed: false,
  },
  {
    claim: 'the threshold is the gate’s own',
    candidate: [0.1, 0.3],
    champion: [0.3, 0.3],
    gate: { ...tolerances({ changedDecisionShare: 0.5 }), decisionThreshold: 0.2 },
    rule: 'changed_decision_share <= 0.5',
    measured: 0.5,
    passed: true,
  },
  {
    claim: 'a champion that answered NaN makes the comparison fail',
    candidate: [0.1, 0.3],
    champion: [0.3, Number.NaN],
    gate: tolerances({ maxAbsoluteDifference: 10 }),
    rule: 'max_absolute_difference <= 10',
    measured: Number.NaN,
    passed: false,
  },
  {
    claim: 'auc of the right order is 1',
    candidate: right,
    labels,
    gate: metric(Metric.AUC, 1),
    rule: 'auc >= 1',
    measured: 1,
    passed: true,
  },
  {
    claim: 'auc of the wrong order is 0',
    candidate: wrong,
    labels,
    gate: metric(Metric.AUC, 0.5),
    rule: 'auc >= 0.5',
    measured: 0,
    passed: false,
  },
  {
    claim: 'auc without labels fails',
    candidate: right,
    gate: metric(Metric.AUC, 0),
    rule: 'auc >= 0',
    measured: Number.NaN,
    passed: false,
  },
  {
    claim: 'brier has a ceiling',
    candidate: [0, 0, 1, 0.5],
    labels,
    gate: metric(Metric.BRIER, 0.0625),
    rule: 'brier <= 0.0625',
    measured: 0.0625,
    passed: true,
  },
  {
    claim: 'log loss has a ceiling',
    candidate: [0.5, 0.5, 0.5, 0.5],
    labels,
    gate: metric(Metric.LOG_LOSS, 0.69),
    rule: 'log_loss <= 0.69',
    measured: Math.LN2,
    passed: false,
  },
  {
    claim: 'log loss of scores that are no probabilities fails',
    candidate: [0, 0, 1, 1.5],
    labels,
    gate: metric(Metric.LOG_LOSS, 100),
    rule: 'log_loss <= 100',
    measured: Number.NaN,
    passed: false,
  },
  {
    claim: 'accuracy counts right decisions',
    candidate: [0.1, 0.7, 0.6, 0.9],
    labels,
    gate: metric(Metric.ACCURACY, 0.75),
    rule: 'accuracy >= 0.75',
    measured: 0.75,
    passed: true,
  },
  {
    claim: 'a higher-is-better metric may be worse than the champion’s by its margin',
    candidate: [0.1, 0.7, 0.6, 0.9],
    champion: right,
    labels,
    gate: metric(Metric.ACCURACY, undefined, 0.25),
    rule: 'accuracy >= champion - 0.25',
    measured: 0.75,
    passed: true,
  },
  {
    claim: 'a lower-is-better metric may not be worse by more than its margin',
    candidate: [0.5, 0.5, 0.5, 0.5],
    champion: [0, 0, 1, 1],
    labels,
    gate: metric(Metric.BRIER, undefined, 0.2),
    rule: 'brier <= champion + 0.2',
    measured: 0.25,
    passed: false,
  },
]

test.each(cases)('$claim', ({ candidate, champion, labels = [], gate, rule, measured, passed }) => {
  const answers = {
    candidate: Float64Array.from(candidate),
    champion: champion && Float64Array.from(champion),
    labels,
  }
  const check = judge(answers, create(GateSchema, gate)).find((found) => found.rule === rule)
  expect(check?.measured).toBe(measured)
  expect(check?.passed).toBe(passed)
})

test('without a champion nothing is compared, and its margins ask nothing', () => {
  const gate = create(GateSchema, {
    tolerances: { meanAbsoluteDifference: 0, changedDecisionShare: 0 },
    metrics: [{ metric: Metric.AUC, bound: 0.5, margin: 0 }],
  })
  const checks = judge({ candidate: Float64Array.from(right), champion: undefined, labels }, gate)
  expect(checks.map(({ rule }) => rule)).toEqual(['finite_answer_share >= 1', 'auc >= 0.5'])
})

test('a comparison names the champion’s value and the bound that follows from it', () => {
  const gate = create(GateSchema, metric(Metric.AUC, 0.6, 0.05))
  const scores = Float64Array.from(right)
  const checks = judge({ candidate: scores, champion: scores, labels }, gate)
  expect(checks.at(-1)).toMatchObject({ rule: 'auc >= champion - 0.05', champion: 1, bound: 0.95, passed: true })
})
