/** `slipway explain`: how much each feature moved an answer. */
import {
  AttributionMethod,
  Baseline,
  type ExplainResponse,
  ExplainResponseSchema,
  type Explanation,
} from '@slipway/proto/slipway/inference/v1/explain_service'
import { UsageError } from '../command.ts'
import { type Command, type Invocation, showMessage } from '../invocation.ts'
import { NameError, shortName } from '../resource-name.ts'
import { bar, countText, fields, numberText, styled, type Terminal, table } from '../terminal.ts'
import { rowsFrom } from './explain-rows.ts'
import { readInputs } from './tensor-file.ts'

const barWidth = 24

/** Commands about explanations. */
export const explainCommands: readonly Command[] = [
  {
    name: 'explain',
    summary: 'how much each feature moved an answer (Shapley values)',
    arguments: [{ name: 'model', doc: 'the model, such as flights, or a version of it, such as flights/3' }],
    options: {
      row: { value: 'NAME=VALUE,…', doc: 'the feature values of one row, such as distance=733,origin=ATL', many: true },
      feature: { value: 'NAME=VALUE', doc: 'a feature value of the only row; for texts with a comma', many: true },
      tensors: { value: 'FILE', doc: 'rows as tensors instead, in JSON as over HTTP: {"inputs": […]}' },
      background: { value: 'FILE', doc: 'rows to compare with, as tensors, instead of those that the version has' },
      version: { value: 'NUMBER', doc: 'the version; default the one that answers' },
      output: { value: 'NAME', doc: 'the output that is explained; default the first' },
      group: { value: 'NAME=FEATURE,…', doc: 'features that are explained as one', many: true },
      seed: { value: 'NUMBER', doc: 'what sampled orders follow from; default 0' },
      'max-evaluations': { value: 'NUMBER', doc: 'most rows that the model answers for one; default 262144' },
      'target-error': { value: 'NUMBER', doc: 'sampling ends when no standard error is larger' },
      'background-rows': { value: 'NUMBER', doc: 'most rows to compare with; default all that the version has' },
    },
    run: explain,
  },
]

async function explain(invocation: Invocation): Promise<void> {
  const { slipway, words, signal } = invocation
  const { model, version } = modelOf(words.text('model'), words.optional('version'))
  const { rows, shown } = await rowsFrom(words)
  const background = words.optional('background')
  const target = words.optional('target-error')
  const answer = await slipway.explanations.explain(
    {
      model,
      version,
      rows,
      ...(background === undefined ? {} : { background: (await readInputs(background)).request }),
      output: words.optional('output') ?? '',
      options: {
        maxEvaluations: BigInt(wholeNumber('max-evaluations', words.optional('max-evaluations'))),
        seed: BigInt(wholeNumber('seed', words.optional('seed'))),
        backgroundRows: wholeNumber('background-rows', words.optional('background-rows')),
        groups: words.many('group').map(groupOf),
        ...(target === undefined ? {} : { targetStandardError: positiveNumber('target-error', target) }),
      },
    },
    { signal },
  )
  showMessage(invocation, ExplainResponseSchema, answer, () => drawExplanations(invocation.terminal, answer, shown))
}

/** A model's name is that of the inference server, which need not be one of the registry: `slipway serve` takes any. */
function modelOf(text: string, version: string | undefined): { model: string; version: string } {
  const [, model, long, short] = /^(?:models\/)?([^/@]+)(?:\/versions\/v?([1-9]\d*)|\/v?([1-9]\d*))?$/.exec(text) ?? []
  if (model === undefined)
    throw new NameError(`${text}: must be a model such as flights or a version such as flights/3`)
  const named = long ?? short
  if (named !== undefined && version !== undefined)
    throw new UsageError(`--version ${version}: "${text}" names a version already`)
  if (version !== undefined && !/^[1-9]\d*$/.test(version))
    throw new UsageError(`--version ${version}: must be a number such as 3`)
  return { model, version: named ?? version ?? '' }
}

function groupOf(word: string): { name: string; features: string[] } {
  const [, name, features] = /^([^=]+)=(.+)$/.exec(word) ?? []
  if (name === undefined || features === undefined)
    throw new UsageError(`--group ${word}: must be NAME=FEATURE,… such as place=origin,destination`)
  return { name, features: features.split(',') }
}

function wholeNumber(option: string, text = '0'): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new UsageError(`--${option} ${text}: must be a whole number`)
}

function positiveNumber(option: string, text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value) && value >= 0) return value
  throw new UsageError(`--${option} ${text}: must be a number, not negative`)
}

const baselines: Readonly<Record<Baseline, string>> = {
  [Baseline.UNSPECIFIED]: '',
  [Baseline.ROWS]: 'rows of the training set',
  [Baseline.MARGINALS]: 'rows drawn from the reference distributions, each feature for itself',
  [Baseline.REQUEST]: 'rows of the request',
}

/** Explanations as text: the largest attributions first, and whether they add up. */
export function drawExplanations(
  terminal: Pick<Terminal, 'colours'>,
  answer: ExplainResponse,
  rows: readonly ReadonlyMap<string, string>[],
): string {
  const head = fields([
    ['version', `${shortName(answer.modelVersion)}  ${answer.digest}`],
    ['output', answer.output],
    ['against', `${answer.backgroundRows} ${baselines[answer.baseline]}`],
  ])
  const parts = answer.explanations.map((explanation, row) =>
    drawExplanation(terminal, answer, explanation, rows[row] ?? new Map()),
  )
  return [head, ...parts].join('\n')
}

function drawExplanation(
  terminal: Pick<Terminal, 'colours'>,
  { features, baseValue }: ExplainResponse,
  explanation: Explanation,
  values: ReadonlyMap<string, string>,
): string {
  const { attributions, standardErrors, prediction, additivityResidual, evaluations, method } = explanation
  const top = Math.max(...attributions.map(Math.abs), Number.MIN_VALUE)
  const order = features.map((_, index) => index)
  order.sort((a, b) => Math.abs(attributions[b] ?? 0) - Math.abs(attributions[a] ?? 0))
  const isExact = method === AttributionMethod.EXACT
  const lines = order.map((index) => {
    const value = attributions[index] ?? 0
    const drawn = bar(Math.abs(value) / top, barWidth).padEnd(barWidth)
    const style = value < 0 ? 'red' : 'green'
    const error = isExact ? 'exact' : `± ${numberText(standardErrors[index] ?? 0)}`
    return [
      features[index] ?? '',
      values.get(features[index] ?? '') ?? '',
      signed(value),
      styled(terminal, style, drawn),
      error,
    ]
  })
  const sum = attributions.reduce((total, value) => total + value, 0)
  const check = `${numberText(baseValue)} ${sum < 0 ? '-' : '+'} ${numberText(Math.abs(sum))} = ${numberText(prediction)}`
  return [
    table(['FEATURE', 'VALUE', 'ATTRIBUTION', '', 'ERROR'], lines),
    fields([
      ['adds up', `${check}, ${numberText(Math.abs(additivityResidual))} left over`],
      ['asked', `${countText(evaluations)} rows`],
    ]),
  ].join('')
}

function signed(value: number): string {
  return value < 0 ? numberText(value) : `+${numberText(value)}`
}
