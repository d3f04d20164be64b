/**
 * What a prediction costs on each part of its way, against a grpc-js server that only echoes: one run, one machine, every
 * server and the load in processes of their own, the servers on one core and the load on another where the system can say so.
 * All lines are measured in turn, several rounds of it, so that a machine that others use too disturbs them alike; the echo
 * and what is set against it take turns within each round as well. What is reported are medians. A round before them warms everything
 * up and is not counted.
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
/** Turns that the echo and unary inference take in each round; a machine that others use changes its speed within seconds. */
const TURNS = 4

/** One line of the report, with its ratios to the echo with as many callers (64 where there is none), each of the same turn or round. */
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
    const turns = pinned(
      [64, 1].flatMap((callers) => [echoLine(echo, echoAddress, callers), unaryLine(system, callers)]),
    )
    const others = pinned([...streamLines(system), ...routerLines(system)])
    const measureAll = async (lines: readonly Measurement[], round: number, each: Pace): Promise<Row[]> => {
      const rows: Row[] = []
      for (const line of lines) {
        onLine(`${line.name}, ${line.callers} callers`, round)
        rows.push(await measure(line, each))
      }
      return rows
    }
    await measureAll([...turns, ...others], 0, { warmUpMs: pace.measureMs, measureMs: 100 })
    const measured: ReportRow[] = []
    for (let round = 1; round <= rounds; round++) {
      const compared: ReportRow[] = []
      for (let turn = 0; turn < TURNS; turn++) {
        const rows = await measureAll(turns, round, { ...pace, measureMs: pace.measureMs / TURNS })
        compared.push(...rows.map((row) => withRatios(row, rows)))
      }
      const base = medians(compared)
      const rows = await measureAll(others, round, pace)
      for (const size of [1, 32]) {
        onLine(`in-process loop of ${size}`, round)
        rows.push(await runLoop(loop, size, pace.measureMs / 2))
      }
      measured.push(...compared, ...rows.map((row) => withRatios(row, base)))
    }
    return { rounds, rows: medians(measured) }
  } finally {
    await Promise.all([echo.stop(), loop.stop(), system.stop()])
  }
}

function pinned(lines: readonly Measurement[]): Measurement[] {
  return lines.map((line) => ({ ...line, isPinned: true }))
}

function echoLine(echo: BenchProcess, address: string, callers: number): Measurement {
  const path = '/slipway.bench.Echo/Echo'
  return { name: ECHO, address, path, request: benchRequest(MODEL), servers: { echo }, ...unaryLoad(callers) }
}

function unaryLine({ inference: { address, process } }: BenchSystem, callers: number): Measurement {
  const servers = { inference: process }
  return { name: UNARY_LINE, address, path: UNARY, request: benchRequest(MODEL), servers, ...unaryLoad(callers) }
}

function unaryLoad(callers: number) {
  return { kind: 'unary' as const, callers, connections: Math.min(callers, 8) }
}

function streamLines({ inference }: BenchSystem): Measurement[] {
  const common = { address: inference.address, request: benchRequest(MODEL), servers: { inference: inference.process } }
  const stream = { ...common, name: 'inference, stream', path: STREAM, kind: 'stream' as const, connections: 1 }
  const framed = { ...stream, name: 'inference, stream, a frame a message', kind: 'framed-stream' as const }
  return [8, 32, 128].flatMap((callers) => [stream, framed].map((line) => ({ ...line, callers })))
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

/** One row for each line, in the order in which the lines came first. */
function medians(rows: readonly ReportRow[]): ReportRow[] {
  const lines = Map.groupBy(rows, ({ name, callers }) => `${name}, ${callers}`)
  return [...lines.values()].map(median)
}

/** The middle of each figure; failures are added up. */
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
