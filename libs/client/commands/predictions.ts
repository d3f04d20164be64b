/** `slipway predict` and `slipway feedback`: ask an endpoint, and say what became of it. */
import { FeatureStatus } from '@slipway/proto/slipway/features/v1/value'
import {
  type PredictResponse,
  PredictResponseSchema,
  RecordFeedbackResponseSchema,
} from '@slipway/proto/slipway/routing/v1/prediction_service'
import { UsageError } from '../command.ts'
import { type Command, type Invocation, showMessage } from '../invocation.ts'
import { parseMoment } from '../moment.ts'
import { endpointName, shortName } from '../resource-name.ts'
import { enumText, fields, numberText } from '../terminal.ts'
import { readValues } from './value-words.ts'

const endpoint = { name: 'endpoint', doc: 'the endpoint, such as flight-delay' }

/** Commands about predictions. */
export const predictionCommands: readonly Command[] = [
  {
    name: 'predict',
    summary: 'one prediction',
    arguments: [endpoint],
    options: {
      key: { value: 'NAME=VALUE', doc: 'an entity key, such as origin=ATL; name:string=7 forces a type', many: true },
      feature: { value: 'NAME=VALUE', doc: 'a feature value that comes with the request', many: true },
      'routing-key': { value: 'TEXT', doc: 'who asks: the same key gets the same variant' },
      'prediction-id': { value: 'ID', doc: 'names the prediction, so that the call can be repeated' },
      at: { value: 'TIME', doc: 'when what is predicted is true; default now' },
    },
    run: predict,
  },
  {
    name: 'feedback',
    summary: 'what became of a prediction',
    arguments: [endpoint, { name: 'prediction', doc: 'the id that "slipway predict" answered' }],
    options: {
      label: { value: 'NUMBER', doc: 'what was true: 0 or 1 for a classifier' },
      reward: { value: 'NUMBER', doc: 'what the prediction earned' },
    },
    run: recordFeedback,
  },
]

async function predict(invocation: Invocation): Promise<void> {
  const { slipway, words, signal } = invocation
  const at = words.optional('at')
  const instance = {
    entityKeys: readValues('key', words.many('key')),
    features: readValues('feature', words.many('feature')),
    predictionId: words.optional('prediction-id') ?? '',
    ...(at === undefined ? {} : { eventTime: parseMoment('--at', at, new Date()) }),
  }
  const answer = await slipway.predictions.predict(
    {
      endpoint: endpointName(words.text('endpoint')),
      instances: [instance],
      routingKey: words.optional('routing-key') ?? '',
    },
    { signal },
  )
  showMessage(invocation, PredictResponseSchema, answer, describeAnswer)
}

async function recordFeedback(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const predictionId = words.text('prediction')
  const answer = await slipway.predictions.recordFeedback({
    endpoint: endpointName(words.text('endpoint')),
    feedback: [{ predictionId, outcome: readOutcome(words.optional('label'), words.optional('reward')) }],
  })
  showMessage(invocation, RecordFeedbackResponseSchema, answer, () => `kept for ${predictionId}\n`)
}

function readOutcome(label: string | undefined, reward: string | undefined) {
  if ((label === undefined) === (reward === undefined)) {
    throw new UsageError('"slipway feedback" needs either --label NUMBER or --reward NUMBER')
  }
  const [name, text] = label === undefined ? (['reward', reward] as const) : (['label', label] as const)
  const value = Number(text)
  if (text === undefined || text.trim() === '' || !Number.isFinite(value)) {
    throw new UsageError(`--${name} ${text}: must be a number`)
  }
  return { case: name, value }
}

function describeAnswer({ predictions }: PredictResponse): string {
  const parts = predictions.map((each) =>
    fields([
      ...Object.entries(each.outputs).map(([name, value]): [string, string] => [name, numberText(value)]),
      ...Object.entries(each.textOutputs),
      ['prediction', each.predictionId],
      ['answered by', `${each.variant}, ${shortName(each.modelVersion)}`],
      ['digest', each.digest],
      ...Object.entries(each.missingFeatures).map(([name, status]): [string, string] => [
        `missing ${name}`,
        enumText(FeatureStatus, status),
      ]),
    ]),
  )
  return parts.join('\n')
}
