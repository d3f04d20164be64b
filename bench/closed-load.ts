/** Callers that each wait for their answer, against servers in turn. */
import { type Figure, informs, median } from './benchmark.ts'
import { MODEL_INFER } from './inference-servers.ts'
import { measure, type Pace, type Row } from './measure.ts'
import { benchRequest } from './model.ts'
import type { RunningProcess } from './system.ts'

/** How a server is loaded. */
export interface ClosedLoad extends Pace {
  readonly model: string
  readonly callers: number
  readonly rows: number
}

const MAX_CONNECTIONS = 8

/** Loads one server. */
export function measureClosed(name: string, { process, address }: RunningProcess, load: ClosedLoad): Promise<Row> {
  const { model, callers, rows, warmUpMs, measureMs } = load
  return measure(
    {
      name,
      address,
      path: MODEL_INFER,
      kind: 'unary',
      callers,
      connections: Math.min(callers, MAX_CONNECTIONS),
      request: benchRequest(model, rows),
      servers: { inference: process },
    },
    { warmUpMs, measureMs },
  )
}

/** The middle of the ratios of two figures, round by round. */
export function medianRatio(rounds: readonly (readonly [number, number])[]): number {
  return median(rounds.map(([one, other]) => one / other))
}

/** Lines of a report's details: each server's speed and latency. */
export function detailsOf(rounds: readonly (readonly Row[])[]): string[][] {
  const lines = (rounds[0] ?? []).map(({ name }, index) => {
    const rows = rounds.flatMap((round) => round[index] ?? [])
    const middle = (pick: (row: Row) => number, digits: number): string => median(rows.map(pick)).toFixed(digits)
    return [
      name,
      middle(({ callsPerSecond }) => callsPerSecond, 0),
      middle(({ cpuMicrosPerCall }) => cpuMicrosPerCall, 1),
      middle(({ p50Ms }) => p50Ms, 3),
      middle(({ p99Ms }) => p99Ms, 3),
      String(rows.reduce((sum, { failed }) => sum + failed, 0)),
    ]
  })
  return [['server', 'calls/s', 'CPU µs/call', 'p50 ms', 'p99 ms', 'failed'], ...lines]
}

/** Failed calls of all rounds, which there should be none of. */
export function failures(rounds: readonly (readonly Row[])[]): Figure {
  const value = rounds.flat().reduce((sum, { failed }) => sum + failed, 0)
  return { ...informs('failed calls', value, ''), target: '0', holds: value === 0 }
}
