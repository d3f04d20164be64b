/**
 * One OpenTelemetry SDK per process.
 *
 * 1. Nothing is loaded and nothing runs until an exporter is configured, by the standard `OTEL_*` variables or by the
 *    caller; without one a span is an empty call.
 * 2. Starts are counted: the first configured one decides, later ones join, the last shutdown flushes and stops.
 * 3. Tracers and instruments handed out before a start work after it (see `instruments.ts`).
 *
 * State is module-wide because OpenTelemetry's own registration is process-wide.
 */
import { createRequire } from 'node:module'
import { context, diag, metrics, propagation, trace } from '@opentelemetry/api'
import type { IMetricReader } from '@opentelemetry/sdk-metrics'
import type { SpanProcessor } from '@opentelemetry/sdk-trace'
import type { Environment } from '@slipway/config'
import { exportEventLoopDelay } from './event-loop.ts'
import { rebind } from './instruments.ts'
import type { LogLevel } from './logger.ts'
import { useLogging } from './logger.ts'

/** What to start, and for whom. */
export interface TelemetryOptions {
  /** Resource attribute `service.name`, unless `OTEL_SERVICE_NAME` names another. */
  readonly serviceName: string
  readonly env: Environment
  /** Replace the exporters that `env` configures, for tests. */
  readonly spanProcessors?: readonly SpanProcessor[]
  readonly metricReaders?: readonly IMetricReader[]
  /** Where log lines go; standard error when left out. */
  readonly writeLog?: (line: string) => void
}

/** One start; give it back with `shutdown`. */
export interface Telemetry {
  /** Flushes and stops when this was the last start. Calling it twice counts once. */
  shutdown(): Promise<void>
}

interface Sdk {
  shutdown(): Promise<void>
}

let running: Sdk | undefined
let stopWatching = (): void => {}
let starts = 0

/** Starts the SDK if an exporter is configured; otherwise only counts. */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  useLogging({ level: logLevel(options.env), write: options.writeLog })
  starts += 1
  if (running === undefined && isConfigured(options)) {
    running = startSdk(options)
    rebind(true)
    stopWatching = exportEventLoopDelay()
  }
  let given = true
  return {
    shutdown: async () => {
      if (!given) return
      given = false
      starts -= 1
      if (starts === 0) await stop()
    },
  }
}

async function stop(): Promise<void> {
  const sdk = running
  if (sdk === undefined) return
  running = undefined
  stopWatching()
  trace.disable()
  metrics.disable()
  propagation.disable()
  context.disable()
  diag.disable()
  rebind(false)
  await sdk.shutdown()
}

function startSdk(options: TelemetryOptions): Sdk {
  // Loaded on demand: it takes a third of a second and 40 MB that a process without an exporter need not spend.
  const { startNodeSdk } = createRequire(import.meta.url)('@opentelemetry/sdk-node') as SdkNode
  const { env, serviceName } = options
  const traces = options.spanProcessors ?? (signalConfigured(env, 'TRACES') ? undefined : [])
  const measurements = options.metricReaders ?? (signalConfigured(env, 'METRICS') ? undefined : [])
  return startNodeSdk({
    logLevel: env.OTEL_LOG_LEVEL ?? 'warn',
    ...(env.OTEL_SERVICE_NAME ? {} : { resourceAttributes: { 'service.name': serviceName } }),
    ...(traces === undefined ? {} : { spanProcessors: [...traces] }),
    ...(measurements === undefined ? {} : { metricReaders: [...measurements] }),
    // Log lines go to standard error; a collector picks them up there.
    logRecordProcessors: [],
  })
}

type SdkNode = Pick<typeof import('@opentelemetry/sdk-node'), 'startNodeSdk'>

function isConfigured(options: TelemetryOptions): boolean {
  const { env } = options
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return false
  if ((options.spanProcessors?.length ?? 0) > 0 || (options.metricReaders?.length ?? 0) > 0) return true
  return signalConfigured(env, 'TRACES') || signalConfigured(env, 'METRICS')
}

function signalConfigured(env: Environment, signal: 'TRACES' | 'METRICS'): boolean {
  if (env.OTEL_CONFIG_FILE) return true
  const exporter = env[`OTEL_${signal}_EXPORTER`]?.trim()
  if (exporter) return exporter !== 'none'
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`])
}

function logLevel(env: Environment): LogLevel | undefined {
  const level = env.SLIPWAY_LOG_LEVEL?.toLowerCase()
  return level === 'debug' || level === 'info' || level === 'warn' || level === 'error' || level === 'off'
    ? level
    : undefined
}
