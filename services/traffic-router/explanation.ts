/** From an answered prediction to the question why it was answered so, and from the reply to attributions. */
import { fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import type { ExplainRequestSchema, ExplainResponse } from '@slipway/proto/slipway/inference/v1/explain_service'
import { Code, Failure } from '@slipway/rpc'
import { hash64 } from '@slipway/stats'
import type { Attribution, Attributions } from './attributions.ts'
import type { Plan } from './plan.ts'
import type { PredictionLog } from './prediction-log.ts'
import type { AnsweredPrediction, AnsweredRequest } from './prediction-record.ts'
import type { ServedVariant } from './routing-table.ts'
import { isSampled } from './sampling.ts'
import { writeInputs } from './tensors.ts'
import { FieldWriter } from './wire-writer.ts'

/** Asks inference why; `deadlineMs` in epoch milliseconds. */
export type AskWhy = (
  request: MessageInitShape<typeof ExplainRequestSchema>,
  deadlineMs: number,
) => Promise<ExplainResponse>

/** What explaining logged predictions needs. */
export interface ExplainerOptions {
  readonly log: Pick<PredictionLog, 'prediction' | 'rows'>
  readonly attributions: Pick<Attributions, 'explain'>
  readonly ask: AskWhy
  /** Rows that the model may answer to explain one. */
  readonly maxEvaluations: number
}

/** What one value of a waiting prediction is taken to hold. */
const BYTES_PER_VALUE = 64

/** Logs predictions, those of the sample after they were explained. */
export class ExplainingLog {
  readonly #options: ExplainerOptions
  readonly #writer = new FieldWriter()

  constructor(options: ExplainerOptions) {
    this.#options = options
  }

  /** Logs a prediction, as far as it is sampled. */
  prediction(answered: AnsweredPrediction): void {
    const { endpoint, predictionId, plan, values } = answered
    if (!isSampled(predictionId, endpoint.predictionSamplingRate)) return
    const { log, attributions } = this.#options
    if (!isSampled(predictionId, endpoint.explainSamplingRate)) {
      log.prediction(answered)
      return
    }
    attributions.explain({
      sizeBytes: BYTES_PER_VALUE * values.length,
      ask: async (deadlineMs) => await this.#ask(answered, plan, this.#requestOf(answered), deadlineMs),
      done: (rows) => log.prediction(rows?.[0] === undefined ? answered : { ...answered, attribution: rows[0] }),
    })
  }

  /** Logs the rows of a request in the Open Inference Protocol, as far as they are sampled. */
  rows(answered: AnsweredRequest): void {
    const { endpoint, predictionId, variant, request } = answered
    if (!isSampled(predictionId, endpoint.predictionSamplingRate)) return
    const { log, attributions } = this.#options
    const { planned } = variant
    if (!('plan' in planned) || !isSampled(predictionId, endpoint.explainSamplingRate)) {
      log.rows(answered)
      return
    }
    attributions.explain({
      sizeBytes: request.length,
      ask: async (deadlineMs) => await this.#ask(answered, planned.plan, request, deadlineMs),
      done: (rows) => log.rows(rows === undefined ? answered : { ...answered, attributions: rows }),
    })
  }

  #requestOf({ plan, values }: AnsweredPrediction): Buffer {
    this.#writer.clear()
    writeInputs(this.#writer, plan, [{ values, index: 0 }])
    return this.#writer.take()
  }

  async #ask(
    { variant, predictionId }: { readonly variant: ServedVariant; readonly predictionId: string },
    plan: Plan,
    request: Buffer,
    deadlineMs: number,
  ): Promise<readonly Attribution[]> {
    const { ask, maxEvaluations } = this.#options
    const { inputs, rawInputContents } = fromBinary(ModelInferRequestSchema, request)
    const options = { maxEvaluations: BigInt(maxEvaluations), seed: BigInt.asIntN(64, hash64(predictionId)) }
    const tensors = { case: 'tensors', value: { inputs, rawInputContents } } as const
    const answer = await ask({ model: variant.model, version: variant.number, rows: tensors, options }, deadlineMs)
    return attributionsOf(answer, variant, plan)
  }
}

/** The attributions of each row in the order of the bindings. Throws when they are of another version or other features. */
export function attributionsOf(answer: ExplainResponse, variant: ServedVariant, plan: Plan): Attribution[] {
  const { digest, features, baseValue, explanations } = answer
  const places = plan.features.map(({ name }) => features.indexOf(name))
  if (digest !== variant.digest || features.length !== places.length || places.includes(-1)) {
    const message = `${variant.modelVersion} was explained as another version, or by other features`
    throw new Failure(Code.INTERNAL, 'EXPLANATION_MISMATCH', message)
  }
  return explanations.map(({ attributions }) => ({
    baseValue,
    values: places.map((place) => attributions[place] ?? Number.NaN),
  }))
}
