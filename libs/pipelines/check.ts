/**
 * From a pipeline as it is written to one that can run: every name is known, datatypes and shapes go together, the steps have
 * an order, nothing is there in vain. Whoever registers, serves or writes a pipeline checks it here.
 */
import { isDatatype, type TensorSpec } from '@slipway/onnx'
import type { ModelStep, Pipeline, PipelineStep } from '@slipway/proto/slipway/inference/v1/pipeline'
import type { FieldViolation } from '@slipway/rpc'
import { freeNames } from './expression.ts'
import { invalidPipeline } from './read.ts'
import { INPUT, neededBy, orderOf, parseTensorName, type TensorName } from './references.ts'
import {
  type CompiledBranch,
  type CompiledOutput,
  checkBranch,
  checkExpressionStep,
  checkModelStep,
  type Known,
  type Signature,
} from './step-check.ts'
import { elementType } from './value-type.ts'

/** A step that runs a model. */
export interface CheckedModelStep {
  readonly kind: 'model'
  readonly name: string
  /** Its file, or the name of the version, as `modelKey` gives it. */
  readonly model: string
  /** The tensors that its inputs get, in the model's order. */
  readonly inputs: readonly { readonly name: string; readonly tensor: TensorName }[]
  readonly outputs: readonly TensorSpec[]
  readonly branch: CompiledBranch | undefined
}

/** A step that evaluates expressions. */
export interface CheckedExpressionStep {
  readonly kind: 'expressions'
  readonly name: string
  readonly outputs: readonly CompiledOutput[]
}

/** A step that can run. */
export type CheckedStep = CheckedModelStep | CheckedExpressionStep

/** A pipeline that can run. */
export interface CheckedPipeline {
  readonly inputs: readonly TensorSpec[]
  /** What a caller gets, with the tensors that it is. */
  readonly outputs: readonly { readonly spec: TensorSpec; readonly tensor: TensorName }[]
  /** The steps, each after those that it reads from. */
  readonly steps: readonly CheckedStep[]
  /** The steps that each step reads from; `input` among them. */
  readonly reads: ReadonlyMap<string, ReadonlySet<string>>
}

/** What names the model of a step among the signatures: its file, or the name of its version. */
export function modelKey({ source }: ModelStep): string {
  if (source.case === 'file') return source.value
  return source.case === 'version' ? source.value.name : ''
}

/** Checks a pipeline against the signatures of its models by `modelKey`. Throws INVALID_PIPELINE with every problem that it finds. */
export function checkPipeline(pipeline: Pipeline, models: ReadonlyMap<string, Signature>): CheckedPipeline {
  const check = new PipelineCheck(pipeline, models)
  const checked = check.run()
  if (check.problems.length > 0) throw invalidPipeline(check.problems)
  return checked
}

class PipelineCheck {
  readonly problems: FieldViolation[] = []
  readonly #pipeline: Pipeline
  readonly #models: ReadonlyMap<string, Signature>
  readonly #specs = new Map<string, Map<string, TensorSpec>>()
  readonly #unknown = new Set<string>()

  constructor(pipeline: Pipeline, models: ReadonlyMap<string, Signature>) {
    this.#pipeline = pipeline
    this.#models = models
  }

  run(): CheckedPipeline {
    const inputs = this.#inputs()
    this.#specs.set(INPUT, new Map(inputs.map((spec) => [spec.name, spec])))
    const steps = this.#steps()
    const reads = new Map(steps.map((step) => [step.name, new Set(readsOf(step).map((tensor) => tensor.step))]))
    const outputs = this.#outputs()
    if (this.problems.length === 0) this.#findUnused(steps, outputs, reads)
    return { inputs, outputs, steps, reads }
  }

  #complain(field: string, description: string): void {
    this.problems.push({ field, description })
  }

  #inputs(): TensorSpec[] {
    const names = new Set<string>()
    return this.#pipeline.inputs.flatMap(({ name, datatype, shape }, index) => {
      if (names.has(name)) this.#complain(`inputs[${index}].name`, `'${name}' is there twice`)
      names.add(name)
      if (isDatatype(datatype) && elementType(datatype) !== undefined)
        return [{ name, datatype, shape: shape.map(Number) }]
      this.#complain(`inputs[${index}].datatype`, `'${datatype}' is not a datatype that can be served`)
      this.#unknown.add(INPUT)
      return []
    })
  }

  /** Checks the steps in an order in which each finds the tensors of those before it. */
  #steps(): CheckedStep[] {
    const { steps } = this.#pipeline
    const byName = new Map<string, number>()
    for (const [index, { name }] of steps.entries()) {
      if (name === INPUT) this.#complain(`steps[${index}].name`, `'${INPUT}' stands for the caller`)
      if (RESERVED.has(name)) this.#complain(`steps[${index}].name`, `'${name}' is a word of CEL`)
      if (byName.has(name)) this.#complain(`steps[${index}].name`, `step '${name}' is there twice`)
      byName.set(name, index)
    }
    const mentions = new Map(steps.map((step) => [step.name, mentionedSteps(step, byName)]))
    const { order, stuck } = orderOf(mentions)
    for (const name of stuck) {
      this.#complain(
        `steps[${byName.get(name)}]`,
        `step '${name}' waits for itself: ${stuck.join(', ')} read each other`,
      )
    }
    return order.flatMap((name) => {
      const index = byName.get(name) ?? 0
      const step = steps[index]
      return step === undefined ? [] : this.#step(step, index)
    })
  }

  #step(step: PipelineStep, index: number): CheckedStep[] {
    const { name, kind } = step
    const known: Known = {
      specs: this.#specs,
      unknown: this.#unknown,
      find: ({ step: from, output }) => this.#specs.get(from)?.get(output),
    }
    const within = (field: string, description: string) =>
      this.#complain(`steps[${index}].${kind.case}.${field}`, `step '${name}': ${description}`)
    const give = (specs: readonly TensorSpec[]) =>
      this.#specs.set(name, new Map(specs.map((spec) => [spec.name, spec])))
    if (kind.case === 'expressions') {
      const outputs = checkExpressionStep(kind.value, known, within, give)
      return [{ kind: 'expressions', name, outputs }]
    }
    if (kind.case !== 'model') return []
    const model = modelKey(kind.value)
    const signature = this.#models.get(model)
    if (signature === undefined) {
      within(kind.value.source.case ?? 'source', `there is no ${model}`)
      this.#unknown.add(name)
      return []
    }
    const outputs = checkModelStep(kind.value, signature, known, within)
    const branch = checkBranch(kind.value, signature, outputs, known, within)
    give(outputs)
    const inputs = signature.inputs.flatMap((spec) => {
      const tensor = parseTensorName(kind.value.inputs[spec.name] ?? '')
      return tensor === undefined ? [] : [{ name: spec.name, tensor }]
    })
    return [{ kind: 'model', name, model, inputs, outputs, branch }]
  }

  #outputs(): CheckedPipeline['outputs'] {
    const names = new Set<string>()
    return this.#pipeline.outputs.flatMap(({ name, tensor: text }, index) => {
      if (names.has(name)) this.#complain(`outputs[${index}].name`, `'${name}' is there twice`)
      names.add(name)
      const tensor = parseTensorName(text)
      const spec = tensor && this.#specs.get(tensor.step)?.get(tensor.output)
      if (tensor !== undefined && spec !== undefined) return [{ spec: { ...spec, name }, tensor }]
      if (!this.#unknown.has(tensor?.step ?? '')) {
        this.#complain(`outputs[${index}].tensor`, `there is no tensor '${text}'`)
      }
      return []
    })
  }

  #findUnused(
    steps: readonly CheckedStep[],
    outputs: CheckedPipeline['outputs'],
    reads: CheckedPipeline['reads'],
  ): void {
    const needed = neededBy(
      outputs.map(({ tensor }) => tensor.step),
      reads,
    )
    for (const [index, { name }] of this.#pipeline.steps.entries()) {
      if (!needed.has(name)) this.#complain(`steps[${index}]`, `step '${name}': no output needs it`)
    }
    const read = [...outputs.map(({ tensor }) => tensor), ...steps.flatMap(readsOf)]
    for (const [index, { name }] of this.#pipeline.inputs.entries()) {
      const isRead = read.some(({ step, output }) => step === INPUT && output === name)
      if (!isRead) this.#complain(`inputs[${index}]`, `nothing reads input '${name}'`)
    }
  }
}

/** Every tensor that a step reads. */
export function readsOf(step: CheckedStep): readonly TensorName[] {
  if (step.kind === 'expressions') return step.outputs.flatMap(({ expression }) => expression.references)
  const branch = step.branch === undefined ? [] : [step.branch.where, ...step.branch.otherwise.values()]
  return [...step.inputs.map(({ tensor }) => tensor), ...branch.flatMap(({ references }) => references)]
}

/** The words of CEL that cannot be names. */
const RESERVED: ReadonlySet<string> = new Set(
  'as break const continue else false for function if import in let loop namespace null package return true var void while'.split(
    ' ',
  ),
)

/** The steps that a step reads from, before it is known which tensors they give. */
function mentionedSteps({ kind }: PipelineStep, steps: ReadonlyMap<string, number>): ReadonlySet<string> {
  const texts: string[] = []
  const names: string[] = []
  if (kind.case === 'expressions') texts.push(...kind.value.outputs.map(({ expression }) => expression))
  if (kind.case === 'model') {
    texts.push(kind.value.where, ...Object.values(kind.value.otherwise))
    names.push(...Object.values(kind.value.inputs).flatMap((text) => parseTensorName(text)?.step ?? []))
  }
  return new Set([...names, ...texts.flatMap((text) => [...freeNames(text)])].filter((name) => steps.has(name)))
}
