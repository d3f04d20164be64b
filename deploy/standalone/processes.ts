/**
 * The five services as five processes, supervised.
 *
 * 1. A process that dies is started again, after a delay that grows with each quick death.
 * 2. A process outlives neither `stop()` nor its parent: it gets SIGTERM, and SIGKILL when it has not left in time.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterDeath } from './restart-policy.ts'
import {
  addressesFrom,
  environmentOf,
  type ServiceName,
  type System,
  type SystemOptions,
  serviceNames,
} from './system.ts'

const stopWithinMs = 15_000
const withParent = new URL('./with-parent.ts', import.meta.url)

/** Starts five processes; they are on their way when it returns, not yet ready. */
export function startProcesses(options: SystemOptions): System {
  const supervisors = serviceNames.map((name) => supervise(name, options))
  return {
    addresses: addressesFrom(options.portBase),
    stop: async () => {
      // The services that write events leave before those that read them.
      for (const supervisor of supervisors.reverse()) await supervisor.stop()
    },
  }
}

function supervise(name: ServiceName, options: SystemOptions): { stop(): Promise<void> } {
  const stopping = new AbortController()
  let child: ChildProcess | undefined
  const run = async () => {
    let state = { quickDeaths: 0 }
    while (!stopping.signal.aborted) {
      const startedMs = performance.now()
      child = start(name, options)
      const [code, signal] = await once(child, 'exit')
      if (stopping.signal.aborted) return
      const next = afterDeath(state, performance.now() - startedMs)
      state = next.state
      options.notice(`${name} ended (${signal ?? `exit code ${code}`}); starting it again in ${next.delayMs} ms`)
      await delay(next.delayMs, undefined, { signal: stopping.signal }).catch(() => undefined)
    }
  }
  const running = run()
  return {
    stop: async () => {
      stopping.abort()
      child?.kill('SIGTERM')
      const kill = setTimeout(() => child?.kill('SIGKILL'), stopWithinMs)
      await running
      clearTimeout(kill)
    },
  }
}

function start(name: ServiceName, options: SystemOptions): ChildProcess {
  const main = fileURLToPath(new URL(`../../services/${name}/main.ts`, import.meta.url))
  return spawn(process.execPath, ['--import', withParent.href, main], {
    env: environmentOf(name, options),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
}
