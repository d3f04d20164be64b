/** `npm start`: the five services on this machine, and the flights example played on them. */
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ConfigError } from '@slipway/config'
import { openProgress, type Progress, playFlights, printSummary } from '@slipway/flights'
import { startTelemetry } from '@slipway/telemetry'
import { assertBrokerAnswers } from './broker.ts'
import { CannotStartError } from './cannot-start.ts'
import { prepareDataDir } from './data-dir.ts'
import { startInProcess } from './in-process.ts'
import { listenForInterruption } from './interruption.ts'
import { watchPeakMemory } from './memory.ts'
import { type Options, parseOptions, UsageError, usage } from './options.ts'
import { assertPortsFree } from './ports.ts'
import { startProcesses } from './processes.ts'
import { untilServing } from './readiness.ts'
import { addressesFrom, httpAddressFrom, type SystemOptions } from './system.ts'

/** Only a bound: services stop in less, a broker that answers nothing included. */
const stopWithinMs = 15_000
const servingWithinMs = 60_000

const startedMs = performance.now()
const interruption = listenForInterruption(process)

try {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') process.stdout.write(usage)
  else process.exitCode = await run(options)
} catch (error) {
  const forPeople = error instanceof UsageError || error instanceof CannotStartError || error instanceof ConfigError
  process.stderr.write(`${forPeople ? error.message : detail(error)}\n`)
  if (error instanceof UsageError) process.stderr.write(`\n${usage}`)
  process.exitCode = forPeople ? 2 : 1
}
// What is durable is on disk by now. Threads, retries and connections to a broker that are left are not waited for.
process.exit()

async function run(options: Options): Promise<number> {
  const progress = openProgress(process.stderr)
  // Between progress bars a person wants to read of trouble only.
  const environment = { SLIPWAY_LOG_LEVEL: 'warn', ...process.env }
  const systemOptions: SystemOptions = {
    dataDir: resolve(options.dataDir),
    portBase: options.portBase,
    kafka: options.kafka,
    environment,
    notice: progress.line,
  }
  const { portBase } = options
  await assertPortsFree({ ...addressesFrom(portBase), 'inference over HTTP': httpAddressFrom(portBase) })
  if (options.kafka !== undefined) await assertBrokerAnswers(options.kafka)

  // What is opened here is closed in reverse.
  await using opened = new AsyncDisposableStack()
  const memory = opened.adopt(watchPeakMemory(), (memory) => memory.stop())
  opened.adopt(await prepareDataDir(systemOptions.dataDir), (held) => held.release())
  const telemetryOptions = { serviceName: 'slipway-standalone', env: environment, writeLog: lineByLine(progress) }
  opened.adopt(startTelemetry(telemetryOptions), (telemetry) => telemetry.shutdown())
  const starting = options.processes ? startProcesses(systemOptions) : startInProcess(systemOptions)
  const system = opened.adopt(await starting, (system) => Promise.race([system.stop(), delay(stopWithinMs)]))
  opened.defer(() => progress.line('stopping'))
  opened.defer(() => progress.close())
  try {
    await untilServing(system.addresses, { withinMs: servingWithinMs, signal: interruption.signal })
    const { summary, broken } = await playFlights({
      addresses: {
        trafficRouter: system.addresses['traffic-router'],
        registry: system.addresses.registry,
        featureStore: system.addresses['feature-store'],
        inference: system.addresses.inference,
        driftMonitor: system.addresses['drift-monitor'],
      },
      dataDir: systemOptions.dataDir,
      kafka: options.kafka,
      fault: options.fault,
      seed: options.seed,
      firstDay: options.firstDay,
      startedMs,
      peakRssBytes: memory.peakBytes,
      progress,
      signal: interruption.signal,
    })
    progress.close()
    process.stdout.write(options.json ? `${JSON.stringify(summary, undefined, 2)}\n` : printSummary(summary))
    for (const claim of broken) process.stderr.write(`the story did not hold: ${claim}\n`)
    if (!options.once) await stayUp(progress)
    return broken.length === 0 ? 0 : 1
  } catch (error) {
    if (!interruption.signal.aborted) throw error
    return interruption.exitCode()
  }
}

async function stayUp(progress: Progress): Promise<void> {
  if (interruption.signal.aborted) return
  progress.line('all services stay up; Ctrl-C stops them')
  const { promise, resolve: stop } = Promise.withResolvers<void>()
  // Keeps the process alive where nothing else does.
  const alive = setInterval(() => undefined, 60_000)
  interruption.signal.addEventListener('abort', () => stop(), { once: true })
  await promise
  clearInterval(alive)
}

function lineByLine(progress: Progress): (text: string) => void {
  return (text) => progress.line(text.trimEnd())
}

function detail(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
