/** `slipway pipelines …`: graphs of models and expressions, checked before they are registered. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { OnnxError, readModel, type TensorSpec } from '@slipway/onnx'
import {
  type CheckedPipeline,
  checkPipeline,
  modelKey,
  PIPELINE_FILE,
  readPipeline,
  type Signature,
  tensorText,
} from '@slipway/pipelines'
import type { ModelStep, Pipeline } from '@slipway/proto/slipway/inference/v1/pipeline'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import { type Command, type Invocation, show } from '../invocation.ts'
import { fields, table } from '../terminal.ts'

/** Commands about pipelines. */
export const pipelineCommands: readonly Command[] = [
  {
    name: 'pipelines check',
    summary: 'what is wrong with a pipeline, before it is registered',
    arguments: [
      {
        name: 'file',
        doc: `the ${PIPELINE_FILE} (slipway.inference.v1.Pipeline); models in files are sought beside it`,
      },
    ],
    run: checkFile,
  },
]

async function checkFile(invocation: Invocation): Promise<void> {
  const file = invocation.words.text('file')
  const problems: FieldViolation[] = []
  const checked = await collect(problems, async () => {
    const pipeline = readPipeline(await readFile(file))
    return checkPipeline(pipeline, await findModels(invocation, pipeline, dirname(file), problems))
  })
  if (checked === undefined || problems.length > 0) {
    const rows = problems.map(({ field, description }) => [field, description])
    show(invocation, { problems: problems.map((problem) => ({ ...problem })) }, () => table(['where', 'problem'], rows))
    throw new Error(`${file} has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}`)
  }
  show(invocation, summaryOf(checked), () => describe(checked))
}

/** Runs a check; what is wrong with a field becomes a problem. */
async function collect<T>(problems: FieldViolation[], check: () => Promise<T>): Promise<T | undefined> {
  try {
    return await check()
  } catch (error) {
    if (!(error instanceof Failure) || error.violations.length === 0) throw error
    problems.push(...error.violations)
    return undefined
  }
}

/** The signatures of the models that the steps run: from files beside the pipeline, and from the registry. */
async function findModels(
  invocation: Invocation,
  { steps }: Pipeline,
  folder: string,
  problems: FieldViolation[],
): Promise<ReadonlyMap<string, Signature>> {
  const models = new Map<string, Signature>()
  for (const [index, { kind }] of steps.entries()) {
    if (kind.case !== 'model' || models.has(modelKey(kind.value))) continue
    const complain = (field: string, description: string) =>
      problems.push({ field: `steps[${index}].model.${field}`, description })
    const found = await findModel(invocation, kind.value, folder, complain)
    if (found !== undefined) models.set(modelKey(kind.value), found)
  }
  return models
}

async function findModel(
  { slipway }: Invocation,
  { source }: ModelStep,
  folder: string,
  complain: (field: string, description: string) => void,
): Promise<Signature | undefined> {
  if (source.case === 'file') {
    const bytes = await readFile(join(folder, source.value)).catch(() => undefined)
    // That there is no such file is said by the check of the pipeline itself.
    if (bytes === undefined) return undefined
    try {
      return readModel(bytes)
    } catch (error) {
      if (!(error instanceof OnnxError)) throw error
      complain('file', `${source.value} is not a model: ${error.message}`)
      return undefined
    }
  }
  if (source.case !== 'version') return undefined
  const { name, digest } = source.value
  const version = await slipway.registry.getVersion({ name }).catch((error: unknown) => {
    if (error instanceof Failure && error.code === Code.NOT_FOUND) return undefined
    throw error
  })
  if (version === undefined) return undefined
  if (version.digest !== digest) complain('version.digest', `${name} has the digest ${version.digest}`)
  const toSpec = (spec: { name: string; datatype: string; shape: bigint[] }): TensorSpec => {
    return { name: spec.name, datatype: spec.datatype as TensorSpec['datatype'], shape: spec.shape.map(Number) }
  }
  return {
    inputs: version.signature?.inputs.map(toSpec) ?? [],
    outputs: version.signature?.outputs.map(toSpec) ?? [],
  }
}

function summaryOf({ inputs, outputs, steps, reads }: CheckedPipeline) {
  const spec = ({ name, datatype, shape }: TensorSpec) => ({ name, datatype, shape: [...shape] })
  return {
    inputs: inputs.map(spec),
    steps: steps.map(({ name, kind }) => ({ name, kind, after: [...(reads.get(name) ?? [])] })),
    outputs: outputs.map((output) => ({ ...spec(output.spec), tensor: tensorText(output.tensor) })),
    problems: [],
  }
}

function describe({ inputs, outputs, steps, reads }: CheckedPipeline): string {
  const spec = ({ name, datatype, shape }: TensorSpec) => `${name} ${datatype}[${shape.join(', ')}]`
  const rows = steps.map((step) => [
    step.name,
    step.kind === 'model' ? step.model : 'expressions',
    [...(reads.get(step.name) ?? [])].join(' '),
    (step.kind === 'model' ? step.outputs : step.outputs.map((output) => output.spec)).map(spec).join(', '),
  ])
  return [
    fields([
      ['inputs', inputs.map(spec).join(', ')],
      ['outputs', outputs.map((output) => `${spec(output.spec)} = ${tensorText(output.tensor)}`).join(', ')],
    ]),
    '\n',
    table(['step', 'runs', 'after', 'gives'], rows),
  ].join('')
}
