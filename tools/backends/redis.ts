import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram, freePorts, run, startServer, stopServer, waitForPort } from './process.ts'

/** A server of its own, empty and without persistence. */
export interface RunningRedis {
  /** `redis://host:port`. */
  readonly url: string
  /** What it is, for people. */
  readonly description: string
  stop(): Promise<void>
}

const startTimeoutMs = 20_000

/** Starts Redis on loopback. */
export async function startRedis(): Promise<RunningRedis> {
  const server = findProgram('redis-server')
  const version = /v=(\S+)/.exec(await run(server, ['--version']))?.[1] ?? ''
  const directory = await mkdtemp(join(tmpdir(), 'slipway-redis-'))
  const [port = 0] = await freePorts(1)
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory]
  const memoryOnly = ['--save', '', '--appendonly', 'no', '--daemonize', 'no']
  const child = startServer(server, [...place, ...memoryOnly], join(directory, 'log'))
  await waitForPort(port, child, startTimeoutMs)
  return {
    url: `redis://127.0.0.1:${port}`,
    description: `Redis ${version}`,
    stop: async () => {
      await stopServer(child)
      await rm(directory, { recursive: true, force: true })
    },
  }
}
