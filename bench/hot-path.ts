/**
 * What a prediction costs on each part of its way, against a grpc-js server that only echoes: one run, one machine, every server
 * and the load in processes of their own.
 */
import { measure, type Pace, type Row } from './measure.ts'
import { benchRequest } from './model.ts'
import { BenchProcess } from './processes.ts'
import { MODEL, startSystem } from './system.ts'

const UNARY = '/inference.GRPCInferenceService/ModelInfer'
const STREAM = '/inference.GRPCInferenceService/ModelStreamInfer'

/** What the benchmark found. */
export interface HotPathReport {
  readonly baseline: string
  readonly rows: readonly (Row & { readonly cpuRatio: number; readonly speedRatio: number })[]
}

/** Runs the benchmark. `onRow` hears of each line as it is there. */
export async function hotPath(pace: Pace, onRow: (row: Row) => void = () => {}): Promise<HotPathReport> {
  const rows: Row[] = []
  const add = (row: Row): void => {
    rows.push(row)
    onRow(row)
  }
  await measureEcho(pace, add)
  await measureLoop(pace, add)
  await measureInference(pace, add)
  const baseline = (callers: number): Row | undefined =>
    rows.find((row) => row.name === 'grpc-js echo' && row.callers === callers) ?? rows[0]
  return {
    baseline: 'grpc-js echo with as many callers, 64 where there is none',
    rows: rows.map((row) => {
      const echo = baseline(row.callers) ?? row
      const cpuRatio = row.cpuMicrosPerCall / echo.cpuMicrosPerCall
      return { ...row, cpuRatio, speedRatio: row.callsPerSecond / echo.callsPerSecond }
    }),
  }
}

async function measureEcho(pace: Pace, add: (row: Row) => void): Promise<void> {
  const echo = new BenchProcess(new URL('./servers/echo.ts', import.meta.url))
  try {
    const address = await echo.next<string>()
    const path = '/slipway.bench.Echo/Echo'
    const common = { address, path, kind: 'unary' as const, request: benchRequest(MODEL), servers: { echo } }
    add(await measure({ ...common, name: 'grpc-js echo', callers: 64, connections: 8 }, pace))
    add(await measure({ ...common, name: 'grpc-js echo', callers: 1, connections: 1 }, pace))
  } finally {
    await echo.stop()
  }
}

interface LoopResult {
  readonly calls: number
  readonly seconds: number
  readonly cpuMicros: number
}

async function measureLoop({ measureMs }: Pace, add: (row: Row) => void): Promise<void> {
  const loop = new BenchProcess(new URL('./servers/onnx-loop.ts', import.meta.url))
  try {
    await loop.next()
    for (const rows of [1, 32]) {
      const { calls, seconds, cpuMicros } = await loop.ask<LoopResult>({ rows, measureMs: measureMs / 2 })
      const ms = (seconds * 1000) / calls
      const cpu = cpuMicros / calls
      add({
        name: `in-process loop, ${rows === 1 ? '1 row' : `${rows} rows`} a run`,
        callers: 1,
        callsPerSecond: calls / seconds,
        cpuMicrosPerCall: cpu,
        cpuByProcess: { loop: cpu },
        meanMs: ms,
        p50Ms: ms,
        p99Ms: ms,
        failed: 0,
      })
    }
  } finally {
    await loop.stop()
  }
}

async function measureInference(pace: Pace, add: (row: Row) => void): Promise<void> {
  const system = await startSystem()
  try {
    const { address, process } = system.inference
    const common = { address, request: benchRequest(MODEL), servers: { inference: process } }
    const unary = { ...common, path: UNARY, kind: 'unary' as const, name: 'inference, unary' }
    add(await measure({ ...unary, callers: 64, connections: 8 }, pace))
    add(await measure({ ...unary, callers: 1, connections: 1 }, pace))
    for (const callers of [8, 32, 128]) {
      const stream = { ...common, path: STREAM, kind: 'stream' as const, name: 'inference, stream' }
      add(await measure({ ...stream, callers, connections: 1 }, pace))
    }
  } finally {
    await system.stop()
  }
}
