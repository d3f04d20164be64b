/**
 * What a pipeline saves and what its expressions cost: three models one after the other in the server, against three calls by
 * hand; and a model between expressions that scale its input and name its output, against the model alone.
 */
import { registerVersion as register } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { createClient } from '@slipway/rpc'
import type { EventLoopDelay } from '@slipway/telemetry'
import { atMost, type Benchmark, informs, median } from './benchmark.ts'
import { type ClosedLoad, detailsOf, failures, measureClosed } from './closed-load.ts'
import type { Row } from './measure.ts'
import { FEATURES } from './model.ts'
import { createServices, type RunningProcess } from './system.ts'

const MODELS_IN_CHAIN = 3
const CALLERS = 16
const ROWS = 200

const inputs = [{ name: 'features', datatype: 'FP32', shape: [-1, FEATURES] }]

/** See the top of this file. */
export const pipelineBenchmark: Benchmark = {
  name: 'pipeline',
  summary: 'three models in one pipeline, against three calls by hand; what expressions around a model add to it',
  defaults: { seconds: 1, rounds: 5 },
  async run({ seconds, rounds }, progress) {
    const { server, stop } = await startServer()
    const load = (model: string, callers: number, rows: number): ClosedLoad => {
      return { model, callers, rows, warmUpMs: 500, measureMs: seconds * 1000 }
    }
    const alone: Row[][] = []
    const many: Row[][] = []
    const wide: Row[][] = []
    const delaysMs: Record<string, number>[] = []
    try {
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        alone.push(await each((name) => measureClosed(`${name}, 1 caller`, server, load(name, 1, 1))))
        many.push(await each((name) => measureClosed(`${name}, ${CALLERS} callers`, server, load(name, CALLERS, 1))))
        const delays: Record<string, number> = {}
        wide.push(
          await each(async (name) => {
            await delayOf(server)
            const row = await measureClosed(`${name}, ${ROWS} rows`, server, load(name, CALLERS, ROWS))
            delays[name] = (await delayOf(server)).p99 * 1000
            return row
          }),
        )
        delaysMs.push(delays)
      }
    } finally {
      await stop()
    }
    const ratio = (measured: readonly Row[][], pick: (row: Row) => number) =>
      median(measured.map((rows) => value(rows, 'chain', pick) / (MODELS_IN_CHAIN * value(rows, 'layer', pick))))
    const delay = (name: string) => median(delaysMs.map((delays) => delays[name] ?? Number.NaN))
    const added = (measured: readonly Row[][], pick: (row: Row) => number) =>
      median(measured.map((rows) => value(rows, 'words', pick) - value(rows, 'layer', pick)))
    return {
      rows: [
        atMost(
          'latency of one caller, pipeline of three / three calls',
          ratio(alone, (row) => row.meanMs),
          1,
          '×',
        ),
        atMost(
          'server CPU, pipeline of three / three calls',
          ratio(many, (row) => row.cpuMicrosPerCall),
          1,
          '×',
        ),
        informs(
          'two steps of expressions add, one caller',
          added(alone, (row) => row.meanMs),
          'ms',
        ),
        informs(
          'two steps of expressions add, server CPU',
          added(many, (row) => row.cpuMicrosPerCall),
          'µs/call',
        ),
        informs(
          `two steps of expressions over ${FEATURES} columns add, server CPU`,
          added(wide, (row) => row.cpuMicrosPerCall / ROWS),
          'µs/row',
        ),
        informs(`p99 delay of the event loop, the model alone, ${ROWS} rows`, delay('layer'), 'ms'),
        atMost('p99 delay of the event loop, with expressions, beyond that', delay('words') - delay('layer'), 10, 'ms'),
        failures([...alone, ...many, ...wide]),
      ],
      details: [...detailsOf(alone), ...detailsOf(many).slice(1), ...detailsOf(wide).slice(1)],
      data: { alone, many, wide, delaysMs },
    }
  },
}

async function each(run: (name: string) => Promise<Row>): Promise<Row[]> {
  const rows: Row[] = []
  for (const name of ['layer', 'chain', 'words']) rows.push(await run(name))
  return rows
}

function value(rows: readonly Row[], name: string, pick: (row: Row) => number): number {
  const row = rows.find((candidate) => candidate.name.startsWith(name))
  return row === undefined ? Number.NaN : pick(row)
}

function delayOf({ process }: RunningProcess): Promise<EventLoopDelay> {
  return process.ask<EventLoopDelay>('event-loop')
}

/** A server with a model, and the two pipelines that pin it. */
async function startServer(): Promise<{ server: RunningProcess; stop: () => Promise<void> }> {
  const services = await createServices()
  try {
    const { address } = await services.start('registry')
    const registry = createClient(RegistryService, { address })
    const publish = async (name: string, files: Readonly<Record<string, Uint8Array>>) => {
      const model = { name: `models/${name}` }
      await registry.createModel({ model })
      // A pipeline may answer in words only; what is measured needs no named output.
      return await register(registry, { parent: model.name, files, outputs: outputsOf(name) })
    }
    const layers = randomLayers([FEATURES, FEATURES], 1)
    const layer = await publish('layer', { 'model.onnx': mlpModel({ layers }) })
    const version = { name: layer.name, digest: layer.digest }
    const chain = await publish('chain', { 'pipeline.json': json(chainOf(version)) })
    const words = await publish('words', { 'pipeline.json': json(wordsOf(version)) })
    const server = await services.start('inference', { SLIPWAY_REGISTRY_ADDRESS: address }, 'inference')
    const control = createClient(ModelControlService, { address: server.address })
    for (const { name, digest } of [layer, chain, words]) await control.loadVersion({ name, digest })
    control.close()
    registry.close()
    return { server, stop: services.stop }
  } catch (error) {
    await services.stop()
    throw error
  }
}

function outputsOf(name: string) {
  return [{ output: 'first', tensor: name === 'layer' ? 'probability' : 'values', column: 0 }]
}

interface Pinned {
  readonly name: string
  readonly digest: string
}

function chainOf(version: Pinned) {
  const steps = Array.from({ length: MODELS_IN_CHAIN }, (_, index) => {
    const features = index === 0 ? 'input.features' : `step${index}.probability`
    return { name: `step${index + 1}`, model: { version, inputs: { features } } }
  })
  return { inputs, steps, outputs: [{ name: 'values', tensor: `step${MODELS_IN_CHAIN}.probability` }] }
}

function wordsOf(version: Pinned) {
  const scaled = {
    name: 'scaled',
    datatype: 'FP32',
    shape: [-1, FEATURES],
    expression: 'input.features.map(x, (x - 0.5) / 2.0)',
  }
  const label = {
    name: 'label',
    datatype: 'BYTES',
    expression: 'score.probability[0] > 0.5 ? "high" : "low"',
  }
  return {
    inputs,
    steps: [
      { name: 'scale', expressions: { outputs: [scaled] } },
      { name: 'score', model: { version, inputs: { features: 'scale.scaled' } } },
      { name: 'name', expressions: { outputs: [label] } },
    ],
    outputs: [
      { name: 'label', tensor: 'name.label' },
      { name: 'values', tensor: 'score.probability' },
    ],
  }
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value))
}
