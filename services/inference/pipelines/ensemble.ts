/** A pipeline as `ModelConfig` of the Open Inference Protocol tells it: as an ensemble, each step a model. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { CheckedPipeline, CheckedStep, TensorName } from '@slipway/pipelines'
import { INPUT, tensorText } from '@slipway/pipelines'
import type { ModelEnsemblingSchema } from '@slipway/proto/inference/model_config'
import type { Servable } from '../servable.ts'

/** The steps with their models, a step of expressions under its own name. Tensors are named `{step}.{output}`, inputs by their names. */
export function ensembleOf(
  { steps, outputs }: CheckedPipeline,
  { model, number }: Pick<Servable, 'model' | 'number'>,
  models: ReadonlyMap<string, Pick<Servable, 'model' | 'number'>>,
): MessageInitShape<typeof ModelEnsemblingSchema> {
  const published = new Map(outputs.map(({ spec, tensor }) => [tensorText(tensor), spec.name]))
  const nameOf = (tensor: TensorName): string =>
    tensor.step === INPUT ? tensor.output : (published.get(tensorText(tensor)) ?? tensorText(tensor))
  return {
    step: steps.map((step) => {
      const runs = step.kind === 'model' ? models.get(step.model) : undefined
      return {
        modelName: runs?.model ?? `${model}/${step.name}`,
        modelVersion: BigInt(runs?.number ?? number),
        inputMap: Object.fromEntries(inputsOf(step).map(({ name, tensor }) => [name, nameOf(tensor)])),
        outputMap: Object.fromEntries(outputNames(step).map((output) => [output, nameOf({ step: step.name, output })])),
      }
    }),
  }
}

function inputsOf(step: CheckedStep): readonly { readonly name: string; readonly tensor: TensorName }[] {
  if (step.kind === 'model') return step.inputs
  const read = step.outputs.flatMap(({ expression }) => expression.references)
  return read.map((tensor) => ({ name: tensorText(tensor), tensor }))
}

function outputNames(step: CheckedStep): readonly string[] {
  return step.kind === 'model' ? step.outputs.map(({ name }) => name) : step.outputs.map(({ spec }) => spec.name)
}
