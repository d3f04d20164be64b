import { fileURLToPath } from 'node:url'
import { ConfigError, type Environment } from '@slipway/config'

/** A service that runs. */
export interface RunningService {
  /** Where it answers, `host:port`. */
  readonly address: string
  /** Drains it: calls in flight finish, everything is closed. */
  stop(): Promise<void>
}

/** What of its process a service touches. */
export type HostProcess = Pick<NodeJS.Process, 'argv' | 'env' | 'stderr' | 'once' | 'exit'>

/**
 * The end of every `main.ts`: starts the service when its module is what the process was started with, and does nothing
 * when it was imported. SIGINT or SIGTERM stops the service, once it is started, and then ends the process with 0; the same
 * signal again ends it at once. A process that was started with an IPC channel stops, too, when the one that started it is
 * gone. Settings that are wrong are told on stderr and end it with 2; any other error ends it as
 * one that nobody caught.
 *
 * The module hands its process in, because only a `main.ts` sees arguments and environment.
 */
export async function runAsProcess(
  moduleUrl: string,
  host: HostProcess,
  start: (env: Environment) => Promise<RunningService>,
): Promise<void> {
  if (host.argv[1] !== fileURLToPath(moduleUrl)) return
  // Before the start, so that a signal that comes while it runs is not lost.
  const asked = new Promise<unknown>((resolve) => {
    host.once('SIGINT', resolve).once('SIGTERM', resolve).once('disconnect', resolve)
  })
  try {
    const running = await start(host.env)
    await asked
    await running.stop()
    host.exit(0)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    host.stderr.write(`${error.message}\n`)
    host.exit(2)
  }
}
