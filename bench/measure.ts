import { pinLoad } from './cores.ts'
import type { LoadPlan, LoadResult } from './load.ts'
import { BenchProcess, type CpuTime } from './processes.ts'

/** One line of a report. */
export interface Row {
  readonly name: string
  readonly callers: number
  readonly callsPerSecond: number
  /** CPU time of the servers per call, one figure for each process and their sum. */
  readonly cpuMicrosPerCall: number
  readonly cpuByProcess: Readonly<Record<string, number>>
  readonly meanMs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly failed: number
}

/** What is measured. */
export interface Measurement extends Omit<LoadPlan, 'warmUpMs' | 'measureMs'> {
  readonly name: string
  /** The processes that answer, by name. */
  readonly servers: Readonly<Record<string, BenchProcess>>
  /** Keeps the load on a core of its own; the servers are kept on another by whoever started them. */
  readonly isPinned?: boolean
}

/** How long each measurement takes. */
export interface Pace {
  readonly warmUpMs: number
  readonly measureMs: number
}

/** Loads a server from a process apart and tells what an answer cost. */
export async function measure({ name, servers, isPinned, ...plan }: Measurement, pace: Pace): Promise<Row> {
  const load = new BenchProcess(new URL('./load-process.ts', import.meta.url))
  try {
    if (isPinned) pinLoad(load)
    await load.ask<'measure'>({ ...plan, ...pace } satisfies LoadPlan)
    const before = await cpuTimes(servers)
    await load.ask<'measure'>('go')
    const after = await cpuTimes(servers)
    const { calls, failed, seconds, meanMs, p50Ms, p99Ms } = await load.ask<LoadResult>('go')
    const cpuByProcess: Record<string, number> = {}
    for (const [server, micros] of Object.entries(after)) {
      cpuByProcess[server] = (micros - (before[server] ?? 0)) / Math.max(1, calls)
    }
    const cpuMicrosPerCall = Object.values(cpuByProcess).reduce((sum, micros) => sum + micros, 0)
    const callsPerSecond = calls / seconds
    return { name, callers: plan.callers, callsPerSecond, cpuMicrosPerCall, cpuByProcess, meanMs, p50Ms, p99Ms, failed }
  } finally {
    await load.stop()
  }
}

async function cpuTimes(servers: Measurement['servers']): Promise<Record<string, number>> {
  const times: Record<string, number> = {}
  for (const [name, server] of Object.entries(servers)) times[name] = (await server.ask<CpuTime>('cpu')).micros
  return times
}
