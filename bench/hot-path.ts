/**
 * What a prediction costs on each part of its way, against a grpc-js server that only echoes: one run, one machine, every
 * server and the load in processes of their own, the servers on one core and the load on another where the system can say so.
 * All lines are measured in turn, several rounds of it, so that a machine that others use too disturbs them alike; what is
 * reported is the median of the rounds. A round before them warms everything up and is not counted.
 */
import { pinServers } from './cores.ts'
import { type Measurement, measure, type Pace, type Row } from './measure.ts'
import { benchRequest, predictRequest } from './model.ts'
import { BenchProcess } from './processes.ts'
import { type BenchSystem, ENTITY_KEY, LOGGED_ENDPOINT, MODEL, QUIET_ENDPOINT, startSystem } from './system.ts'

const UNARY = '/inference.GRPCInferenceService/ModelInfer'
const STREAM = '/inference.GRPCInferenceService/ModelStreamInfer'
const PREDICT = '/slipway.routing.v1.PredictionService/Predict'
const ECHO = 'grpc-js echo'
const UNARY_LINE = 'inference, unary'

/** One line of the report, with its ratios to the echo with as many callers (64 where there is none), each of the same round. */
export interface ReportRow extends Row {
  readonly cpuRatio: number
  readonly speedRatio: number
  readonly meanRatio: number
  /** Its speed, of unary inference with 64 callers. */
  readonly unaryRatio: number
}

/** What the benchmark found. */
export interface HotPathReport {
  readonly rounds: number
  readonly rows: readonly ReportRow[]
}

/** How the benchmark is run. */
export interface HotPathOptions extends Pace {
  readonly rounds: number
  /** Hears of each line before it is measured; round 0 warms up. */
  readonly onLine: (name: string, round: number) => void
}

/** Runs the benchmark. */
export async function hotPath({ rounds, onLine, ...pace }: HotPathOptions): Promise<HotPathReport> {
  const echo = new BenchProcess(new URL('./servers/echo.ts', import.meta.url))
  const loop = new BenchProcess(new URL('./servers/onnx-loop.ts', import.meta.url))
  const echoAddress = await echo.next<string>()
  await loop.next()
  const system = await startSystem()
  const { inference, router, featureStore } = system
  pinServers(echo, loop, ...[inference, router, featureStore].map((server) => server.process))
  try {
    const lines = [...echoLines(echo, echoAddress), ...inferenceLines(system), ...routerLines(system)].map(
      (line): Measurement => ({ ...line, isPinned: true }),
    )
    const measured: ReportRow[][] = []
    for (const line of lines) {
      onLine(`${line.name}, ${line.callers} callers`, 0)
      await measure(line, { warmUpMs: pace.measureMs, measureMs: 100 })
    }
    for (let round = 1; round <= rounds; round++) {
      const rows: Row[] = []
      for (const line of lines) {
        onLine(`${line.name}, ${line.callers} callers`, round)
        rows.push(await measure(line, pace))
      }
      for (const size of [1, 32]) {
        onLine(`in-process loop of ${size}`, round)
        rows.push(await runLoop(loop, size, pace.measureMs / 2))
      }
      measured.push(rows.map((row) => withRatios(row, rows)))
    }
    return {
      rounds,
      rows: (measured[0] ?? []).map((_, index) => median(measured.flatMap((rows) => rows[index] ?? []))),
    }
  } finally {
    await Promise.all([echo.stop(), loop.stop(), system.stop()])
  }
}

function echoLines(echo: BenchProcess, address: string): Measurement[] {
  const path = '/slipway.bench.Echo/Echo'
  const common = { name: ECHO, address, path, kind: 'unary' as const, request: benchRequest(MODEL), servers: { echo } }
  return [
    { ...common, callers: 64, connections: 8 },
    { ...common, callers: 1, connections: 1 },
  ]
}

function inferenceLines({ inference }: BenchSystem): Measurement[] {
  const common = { address: inference.address, request: benchRequest(MODEL), servers: { inference: inference.process } }
  const unary = { ...common, name: UNARY_LINE, path: UNARY, kind: 'unary' as const }
  const stream = { ...common, name: 'inference, stream', path: STREAM, kind: 'stream' as const, connections: 1 }
  const framed = { ...stream, name: 'inference, stream, a frame a message', kind: 'framed-stream' as const }
  return [
    { ...unary, callers: 64, connections: 8 },
    { ...unary, callers: 1, connections: 1 },
    ...[8, 32, 128].flatMap((callers) => [stream, framed].map((line) => ({ ...line, callers }))),
  ]
}

function routerLines({ router, inference, featureStore }: BenchSystem): Measurement[] {
  const servers = { router: router.process, inference: inference.process }
  const common = { address: router.address, servers, kind: 'unary' as const, callers: 64, connections: 8 }
  const withStore = { ...common, servers: { ...servers, featureStore: featureStore.process }, path: PREDICT }
  return [
    { ...common, name: 'router to inference', path: UNARY, request: benchRequest(QUIET_ENDPOINT) },
    { ...withStore, name: 'router with features', request: predictRequest(QUIET_ENDPOINT, ENTITY_KEY) },
    { ...withStore, name: 'router with features, all logged', request: predictRequest(LOGGED_ENDPOINT, ENTITY_KEY) },
  ]
}

interface LoopResult {
  readonly calls: number
  readonly seconds: number
  readonly cpuMicros: number
}

async function runLoop(loop: BenchProcess, size: number, measureMs: number): Promise<Row> {
  const { calls, seconds, cpuMicros } = await loop.ask<LoopResult>({ rows: size, measureMs })
  const ms = (seconds * 1000) / calls
  return {
    name: `in-process loop, ${size} ${size === 1 ? 'row' : 'rows'} a run`,
    callers: 1,
    callsPerSecond: calls / seconds,
    cpuMicrosPerCall: cpuMicros / calls,
    cpuByProcess: { loop: cpuMicros / calls },
    meanMs: ms,
    p50Ms: ms,
    p99Ms: ms,
    failed: 0,
  }
}

function withRatios(row: Row, rows: readonly Row[]): ReportRow {
  const echoes = rows.filter(({ name }) => name === ECHO)
  const echo = echoes.find(({ callers }) => callers === row.callers) ?? echoes[0] ?? row
  const unary = rows.find(({ name, callers }) => name === UNARY_LINE && callers === 64) ?? row
  return {
    ...row,
    cpuRatio: row.cpuMicrosPerCall / echo.cpuMicrosPerCall,
    speedRatio: row.callsPerSecond / echo.callsPerSecond,
    meanRatio: row.meanMs / echo.meanMs,
    unaryRatio: row.callsPerSecond / unary.callsPerSecond,
  }
}

/** The middle of each figure over the rounds; failures are added up. */
function median(rows: readonly ReportRow[]): ReportRow {
  const [first] = rows
  if (first === undefined) throw new Error('nothing was measured')
  const middle = (pick: (row: ReportRow) => number): number => {
    const sorted = rows.map(pick).sort((left, right) => left - right)
    return sorted[sorted.length >> 1] ?? 0
  }
  return {
    ...first,
    callsPerSecond: middle((row) => row.callsPerSecond),
    cpuMicrosPerCall: middle((row) => row.cpuMicrosPerCall),
    cpuByProcess: Object.fromEntries(
      Object.keys(first.cpuByProcess).map((name) => [name, middle((row) => row.cpuByProcess[name] ?? 0)]),
    ),
    meanMs: middle((row) => row.meanMs),
    p50Ms: middle((row) => row.p50Ms),
    p99Ms: middle((row) => row.p99Ms),
    failed: rows.reduce((sum, { failed }) => sum + failed, 0),
    cpuRatio: middle((row) => row.cpuRatio),
    speedRatio: middle((row) => row.speedRatio),
    meanRatio: middle((row) => row.meanRatio),
    unaryRatio: middle((row) => row.unaryRatio),
  }
}
