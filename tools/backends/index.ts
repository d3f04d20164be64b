/** Real servers for the tests, on loopback, on ports that are free, each with data of its own that goes with it. */
import { type RunningKafka, startKafka } from './kafka.ts'
import { type RunningPostgres, startPostgres } from './postgres.ts'
import { Missing } from './process.ts'
import { type RunningRedis, startRedis } from './redis.ts'

export { type KafkaOptions, type RunningKafka, startKafka } from './kafka.ts'
export { type RunningPostgres, startPostgres } from './postgres.ts'
export { Missing } from './process.ts'
export { type RunningRedis, startRedis } from './redis.ts'

/** A server that this machine cannot run, and why. */
export interface MissingBackend {
  readonly name: BackendName
  readonly reason: string
}

/** The servers that can be started. */
export type BackendName = 'kafka' | 'postgres' | 'redis'

/** What was started. */
export interface Backends {
  readonly kafka?: RunningKafka
  readonly postgres?: RunningPostgres
  readonly redis?: RunningRedis
  readonly missing: readonly MissingBackend[]
  /** The variables by which tests find the servers. */
  readonly env: Readonly<Record<string, string>>
  stop(): Promise<void>
}

/** What to start and how strictly. */
export interface StartOptions {
  /** Default all. */
  readonly only?: readonly BackendName[]
  /** Fails when one is missing instead of going on without it. */
  readonly require?: boolean
  /** Gets a line for each server: which it runs against, or why it is left out. */
  readonly say?: (line: string) => void
}

const names: readonly BackendName[] = ['kafka', 'postgres', 'redis']

/**
 * Starts what this machine has. A server whose programs are not installed is left out and said, or, with `require`, an
 * error; one that is installed and does not start is always an error.
 */
export async function startBackends(options: StartOptions = {}): Promise<Backends> {
  const only = new Set(options.only ?? names)
  const say = options.say ?? (() => undefined)
  const missing: MissingBackend[] = []

  async function attempt<T extends { readonly description: string }>(
    name: BackendName,
    start: () => Promise<T>,
  ): Promise<T | undefined> {
    if (!only.has(name)) return undefined
    try {
      const running = await start()
      say(`${name}: testing against ${running.description}`)
      return running
    } catch (error) {
      if (!(error instanceof Missing)) throw error
      missing.push({ name, reason: error.message })
      say(`${name}: left out, ${error.message} (tools/backends/install.sh installs it on Debian)`)
      return undefined
    }
  }

  const started = await Promise.allSettled([
    attempt('kafka', startKafka),
    attempt('postgres', startPostgres),
    attempt('redis', startRedis),
  ])
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((one) => (one.status === 'fulfilled' ? one.value?.stop() : undefined)))
  }
  const failed = started.find((one) => one.status === 'rejected')
  if (failed !== undefined || (options.require === true && missing.length > 0)) {
    await stop()
    throw failed?.reason ?? new Missing(missing.map(({ name, reason }) => `${name}: ${reason}`).join('; '))
  }
  const [kafka, postgres, redis] = started.map((one) => (one.status === 'fulfilled' ? one.value : undefined)) as [
    RunningKafka | undefined,
    RunningPostgres | undefined,
    RunningRedis | undefined,
  ]
  return {
    ...(kafka === undefined ? {} : { kafka }),
    ...(postgres === undefined ? {} : { postgres }),
    ...(redis === undefined ? {} : { redis }),
    missing,
    env: {
      ...(kafka === undefined ? {} : { SLIPWAY_TEST_KAFKA: kafka.brokers.join(',') }),
      ...(postgres === undefined ? {} : { SLIPWAY_TEST_POSTGRES: postgres.url }),
      ...(redis === undefined ? {} : { SLIPWAY_TEST_REDIS: redis.url }),
    },
    stop,
  }
}
