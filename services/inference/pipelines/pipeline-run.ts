/**
 * One request on its way through the steps of a pipeline.
 *
 * 1. A step runs once, as soon as the steps that it reads from have, and only if an output that was asked for needs it.
 * 2. Once a step has failed, the caller is gone or the deadline has passed, no other step begins, and what waits for a model is
 *    dropped from its queue, and called back from its executor.
 */
import {
  type CheckedExpressionStep,
  type CheckedModelStep,
  type CheckedStep,
  INPUT,
  placeRows,
  selectRows,
  type Tensor,
  TensorBuilder,
  type TensorName,
  tensorText,
  zeroRows,
} from '@slipway/pipelines'
import type { Context } from '@slipway/telemetry'
import { predict, type RawTensor } from '../local-predictions.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { BACKGROUND_PRIORITY, type Work } from '../work-queue.ts'
import { type Column, evaluateRows, RequestTensors } from './evaluate.ts'
import type { ExpressionTurns } from './expression-turns.ts'
import { inStep } from './failures.ts'
import type { Traced } from './step-tracing.ts'

/** What all runs of a pipeline share. */
export interface RunnablePipeline {
  readonly model: string
  readonly steps: ReadonlyMap<string, CheckedStep>
  /** The steps that each step reads from. */
  readonly reads: ReadonlyMap<string, ReadonlySet<string>>
  /** Tensors that something reads, by their full names. */
  readonly used: ReadonlySet<string>
  /** Who runs the models, by the steps' `model`. */
  readonly models: ReadonlyMap<string, Servable>
  readonly turns: ExpressionTurns
  readonly traced: Traced
}

/** See the top of this file. */
export class PipelineRun {
  readonly tensors = new RequestTensors()
  readonly #pipeline: RunnablePipeline
  readonly #work: Work
  readonly #trace: Context | undefined
  readonly #begun = new Map<string, Promise<void>>()
  readonly #givenUp = new AbortController()

  constructor(pipeline: RunnablePipeline, work: Work, trace: Context | undefined) {
    this.#pipeline = pipeline
    this.#work = work
    this.#trace = trace
    work.onCancel?.(() => this.#givenUp.abort())
  }

  /** Runs what these tensors need. Rejects with the first failure. */
  async run(wanted: readonly TensorName[]): Promise<void> {
    try {
      await Promise.all(wanted.map(({ step }) => this.#step(step)))
    } catch (error) {
      this.#givenUp.abort()
      throw error
    }
  }

  /** Resolves when no step is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#begun.values())
  }

  #step(name: string): Promise<void> {
    if (name === INPUT) return Promise.resolve()
    let begun = this.#begun.get(name)
    if (begun === undefined) {
      begun = this.#runStep(name)
      this.#begun.set(name, begun)
    }
    return begun
  }

  async #runStep(name: string): Promise<void> {
    const { steps, reads, traced } = this.#pipeline
    await Promise.all([...(reads.get(name) ?? [])].map((before) => this.#step(before)))
    const step = steps.get(name)
    if (step === undefined) throw new RangeError(`there is no step ${name}`)
    try {
      this.#checkWanted()
      await traced(name, this.#trace, (within) =>
        step.kind === 'model' ? this.#runModel(step, within) : this.#runExpressions(step),
      )
    } catch (error) {
      this.#givenUp.abort()
      throw inStep(name, error)
    }
  }

  #checkWanted(): void {
    if (this.#givenUp.signal.aborted || this.#work.isCancelled) throw refusal.cancelled()
    if (this.#work.deadlineMs <= Date.now()) throw refusal.deadline(this.#pipeline.model)
  }

  async #runExpressions({ name, outputs }: CheckedExpressionStep): Promise<void> {
    const used = outputs.filter(({ spec }) => this.#isUsed(name, spec.name))
    const rows = this.tensors.count(used.flatMap(({ expression }) => expression.references))
    const builders = used.map(({ spec }) => new TensorBuilder(spec.datatype, spec.shape, rows))
    const columns = used.map(({ spec, expression }, index): Column => {
      return { label: spec.name, expression, take: (value) => builders[index]?.add(value) }
    })
    await this.#evaluate(name, columns, numbers(rows))
    for (const [index, { spec }] of used.entries()) {
      const tensor = builders[index]?.build()
      if (tensor !== undefined) this.tensors.set({ step: name, output: spec.name }, tensor)
    }
  }

  async #runModel(step: CheckedModelStep, trace: Context | undefined): Promise<void> {
    const inputs = step.inputs.map(({ name, tensor }) => ({ name, ...this.tensors.get(tensor) }))
    const names = step.outputs.map(({ name }) => name).filter((name) => this.#isUsed(step.name, name))
    const answers =
      step.branch === undefined
        ? await this.#predict(step, inputs, names, trace)
        : await this.#branch(step, inputs, names, trace)
    for (const [index, name] of names.entries()) {
      const answer = answers[index]
      if (answer !== undefined) this.tensors.set({ step: step.name, output: name }, answer)
    }
  }

  async #predict(
    step: CheckedModelStep,
    inputs: readonly RawTensor[],
    outputs: readonly string[],
    trace: Context | undefined,
  ): Promise<readonly Tensor[]> {
    const { models } = this.#pipeline
    const served = models.get(step.model)
    if (served === undefined) throw new RangeError(`there is no model ${step.model}`)
    const { priority, deadlineMs } = this.#work
    const answers = await predict(served, {
      inputs,
      outputs,
      priority,
      deadlineMs,
      signal: this.#givenUp.signal,
      ...(trace === undefined ? {} : { trace }),
    })
    return answers.map(({ name, shape, bytes }) => {
      return { datatype: step.outputs.find((spec) => spec.name === name)?.datatype ?? 'BYTES', shape, bytes }
    })
  }

  /** Sends the rows for which the condition holds to the model, and fills in the others. */
  async #branch(
    step: CheckedModelStep,
    inputs: readonly (Tensor & { readonly name: string })[],
    outputs: readonly string[],
    trace: Context | undefined,
  ): Promise<readonly Tensor[]> {
    const { where, otherwise } = step.branch as NonNullable<CheckedModelStep['branch']>
    const others = outputs.flatMap((name) => otherwise.get(name) ?? [])
    const read = [where, ...others].flatMap(({ references }) => references)
    const rows = this.tensors.count([...read, ...step.inputs.map(({ tensor }) => tensor)])
    const inside: number[] = []
    const outside: number[] = []
    let row = 0
    const sort = (holds: unknown) => (holds === true ? inside : outside).push(row++)
    await this.#evaluate(step.name, [{ label: 'where', expression: where, take: sort }], numbers(rows))
    if (outside.length === 0) return await this.#predict(step, inputs, outputs, trace)
    const filled = await this.#otherwise(step, outputs, outside)
    if (inside.length === 0) return filled
    const chosen: RawTensor[] = []
    for (const input of inputs) {
      chosen.push({ name: input.name, ...(await this.#inTurns(selectRows(input, inside))) })
    }
    const predicted = await this.#predict(step, chosen, outputs, trace)
    const whole: Tensor[] = []
    for (const [index, tensor] of predicted.entries()) {
      const other = { tensor: filled[index] ?? tensor, positions: outside }
      whole.push(await this.#inTurns(placeRows([{ tensor, positions: inside }, other])))
    }
    return whole
  }

  async #otherwise(
    { name: step, outputs: specs, branch }: CheckedModelStep,
    outputs: readonly string[],
    positions: readonly number[],
  ): Promise<readonly Tensor[]> {
    const columns: Column[] = []
    const build = outputs.map((name) => {
      const { datatype, shape } = specs.find((spec) => spec.name === name) ?? {
        datatype: 'BYTES' as const,
        shape: [-1],
      }
      const expression = branch?.otherwise.get(name)
      if (expression === undefined) return () => zeroRows(datatype, shape, positions.length)
      const builder = new TensorBuilder(datatype, shape, positions.length)
      columns.push({ label: `otherwise.${name}`, expression, take: (value) => builder.add(value) })
      return () => builder.build()
    })
    await this.#evaluate(step, columns, positions)
    return build.map((tensor) => tensor())
  }

  async #evaluate(step: string, columns: readonly Column[], positions: Iterable<number>): Promise<void> {
    await this.#inTurns(evaluateRows(step, columns, this.tensors, positions))
  }

  /** Does work in turns of the event loop, looking between its pieces whether it is still wanted. */
  async #inTurns<T>(work: Generator<void, T>): Promise<T> {
    let result: T | undefined
    const next = () => {
      const { done, value } = work.next()
      if (done !== true) this.#checkWanted()
      else result = value
      return { done: done === true }
    }
    await this.#pipeline.turns.run({ next }, this.#work.priority >= BACKGROUND_PRIORITY)
    return result as T
  }

  #isUsed(step: string, output: string): boolean {
    return this.#pipeline.used.has(tensorText({ step, output }))
  }
}

function* numbers(count: number): Generator<number> {
  for (let number = 0; number < count; number++) yield number
}
