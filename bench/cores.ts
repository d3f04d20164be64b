/** Which cores the parts of a benchmark run on: servers on one, the load on another, as on two machines. */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import type { BenchProcess } from './processes.ts'

const SERVER_CORE = 0
const LOAD_CORE = 1

/** Whether processes can be told their core here: Linux with util-linux, and two cores at least. */
export const canPin = availableParallelism() > LOAD_CORE && spawnSync('taskset', ['--version']).status === 0

/** Keeps servers on the first core. */
export function pinServers(...servers: readonly BenchProcess[]): void {
  for (const server of servers) pin(server, SERVER_CORE)
}

/** Keeps the load on the second core. */
export function pinLoad(load: BenchProcess): void {
  pin(load, LOAD_CORE)
}

function pin({ pid }: BenchProcess, core: number): void {
  if (!canPin || pid === undefined) return
  const { status, stderr } = spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(core), String(pid)])
  if (status !== 0) throw new Error(`a process cannot be kept on core ${core}: ${stderr}`)
}
