/** `npm start`: the five services on this machine, and the flights example played on them. */
import { resolve } from 'node:path'
import { openProgress, playFlights, printSummary } from '@slipway/flights'
import { startTelemetry } from '@slipway/telemetry'
import { ForeignDirectoryError, prepareDataDir } from './data-dir.ts'
import { startInProcess } from './in-process.ts'
import { watchPeakMemory } from './memory.ts'
import { type Options, parseOptions, UsageError, usage } from './options.ts'
import { startProcesses } from './processes.ts'
import { untilServing } from './readiness.ts'
import type { SystemOptions } from './system.ts'

const servingWithinMs = 60_000

const startedMs = performance.now()
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort(signal))

try {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') process.stdout.write(usage)
  else process.exitCode = await run(options)
} catch (error) {
  const known = error instanceof UsageError || error instanceof ForeignDirectoryError
  process.stderr.write(known ? `${error.message}\n\n${error instanceof UsageError ? usage : ''}` : `${detail(error)}\n`)
  process.exitCode = known ? 2 : 1
}

async function run(options: Options): Promise<number> {
  const progress = openProgress(process.stderr)
  const memory = watchPeakMemory()
  const telemetry = startTelemetry({ serviceName: 'slipway-standalone', env: process.env })
  const dataDir = resolve(options.dataDir)
  await prepareDataDir(dataDir)
  const systemOptions: SystemOptions = {
    dataDir,
    portBase: options.portBase,
    kafka: options.kafka,
    environment: process.env,
    notice: progress.line,
  }
  const system = options.processes ? startProcesses(systemOptions) : await startInProcess(systemOptions)
  try {
    await untilServing(system.addresses, servingWithinMs)
    const { summary, broken } = await playFlights({
      addresses: {
        trafficRouter: system.addresses['traffic-router'],
        registry: system.addresses.registry,
        featureStore: system.addresses['feature-store'],
        inference: system.addresses.inference,
        driftMonitor: system.addresses['drift-monitor'],
      },
      dataDir,
      kafka: options.kafka,
      fault: options.fault,
      seed: options.seed,
      firstDay: options.firstDay,
      startedMs,
      peakRssBytes: memory.peakBytes,
      progress,
      signal: interrupted.signal,
    })
    if (options.json) process.stdout.write(`${JSON.stringify(summary, undefined, 2)}\n`)
    else process.stdout.write(printSummary(summary))
    for (const claim of broken) process.stderr.write(`the story did not hold: ${claim}\n`)
    if (!options.once) await stayUp(progress.line)
    return broken.length === 0 ? 0 : 1
  } catch (error) {
    if (!interrupted.signal.aborted) throw error
    return 130
  } finally {
    progress.line('stopping')
    await system.stop()
    await telemetry.shutdown()
    memory.stop()
  }
}

async function stayUp(line: (text: string) => void): Promise<void> {
  if (interrupted.signal.aborted) return
  line('all services stay up; Ctrl-C stops them')
  const { promise, resolve: stop } = Promise.withResolvers<void>()
  // Keeps the process alive where nothing else does.
  const alive = setInterval(() => undefined, 60_000)
  interrupted.signal.addEventListener('abort', () => stop(), { once: true })
  await promise
  clearInterval(alive)
}

function detail(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
