/**
 * The five services as five processes, supervised.
 *
 * 1. A process that dies is started again, after a delay that grows with each quick death.
 * 2. A process outlives neither `stop()` nor its parent: it gets SIGTERM, and SIGKILL when it has not left in time.
 * 3. What a process writes on stderr goes to `notice`, line by line.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { untilServing } from './readiness.ts'
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
  const stopping = new AbortController()
  const addresses = addressesFrom(options.portBase)
  // The others could start without it, and would warn that it is away.
  const registryServes = untilServing({ registry: addresses.registry }, { withinMs: 60_000, signal: stopping.signal })
  const others = registryServes.catch(() => undefined)
  const supervisors = serviceNames.map((name) =>
    supervise(name, options, stopping.signal, name === 'registry' ? Promise.resolve() : others),
  )
  return {
    addresses,
    stop: async () => {
      stopping.abort()
      // Those that call others leave before those that are called.
      for (const supervisor of supervisors.toReversed()) await supervisor.stop()
    },
  }
}

function supervise(
  name: ServiceName,
  options: SystemOptions,
  stopping: AbortSignal,
  startAfter: Promise<void>,
): { stop(): Promise<void> } {
  let child: ChildProcess | undefined
  const run = async () => {
    await startAfter
    let state = { quickDeaths: 0 }
    while (!stopping.aborted) {
      const startedMs = performance.now()
      child = start(name, options)
      const [code, signal] = await once(child, 'exit')
      if (stopping.aborted) return
      const next = afterDeath(state, performance.now() - startedMs)
      state = next.state
      options.notice(`${name} ended (${signal ?? `exit code ${code}`}); starting it again in ${next.delayMs} ms`)
      await delay(next.delayMs, undefined, { signal: stopping }).catch(() => undefined)
    }
  }
  const running = run()
  return {
    stop: async () => {
      child?.kill('SIGTERM')
      const kill = setTimeout(() => child?.kill('SIGKILL'), stopWithinMs)
      await running
      clearTimeout(kill)
    },
  }
}

function start(name: ServiceName, options: SystemOptions): ChildProcess {
  const main = fileURLToPath(new URL(`../../services/${name}/main.ts`, import.meta.url))
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--import', withParent.href, main], {
    env: environmentOf(name, options),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // A group of its own: a Ctrl-C in the terminal reaches the supervisor alone, which stops one after another.
    detached: true,
  })
  if (child.stderr !== null) createInterface({ input: child.stderr }).on('line', options.notice)
  return child
}
