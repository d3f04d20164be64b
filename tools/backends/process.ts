import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { accessSync, constants, openSync } from 'node:fs'
import { createServer, connect as openSocket } from 'node:net'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

/** Something that a backend needs is not on this machine. */
export class Missing extends Error {}

/** The full path of a program; throws `Missing` when there is none. */
export function findProgram(name: string, moreDirectories: readonly string[] = []): string {
  for (const directory of [...(process.env.PATH ?? '').split(delimiter), ...moreDirectories]) {
    const path = join(directory, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // The next folder may have it.
    }
  }
  throw new Missing(`${name} is not installed`)
}

/** Runs a program to its end; an error says what it wrote. */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly timeoutMs?: number } = {},
): Promise<string> {
  const { stdout } = await promisify(execFile)(program, [...args], {
    cwd: options.cwd,
    timeout: options.timeoutMs ?? 60_000,
    maxBuffer: 16 * 1024 * 1024,
  })
  return stdout
}

/** Starts a server that writes into a log file and ends with this process. */
export function startServer(program: string, args: readonly string[], logPath: string, cwd?: string): ChildProcess {
  const log = openSync(logPath, 'a')
  const child = spawn(program, [...args], { cwd, stdio: ['ignore', log, log] })
  const end = (): void => {
    child.kill('SIGKILL')
  }
  process.once('exit', end)
  child.once('exit', () => process.off('exit', end))
  return child
}

/** Ends a server: gently, then not, and waits until it is gone. */
export async function stopServer(child: ChildProcess, graceMs = 5000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await gone
  clearTimeout(timer)
}

/** Ports on loopback that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => {
    const address = server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** Waits until something answers on the port; fails when `child` ends before, or after `timeoutMs`. */
export async function waitForPort(port: number, child: ChildProcess, timeoutMs: number): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs
  while (!(await accepts(port))) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('the server ended while it started')
    if (Date.now() > deadlineMs) throw new Error(`nothing answers on port ${port} after ${timeoutMs} ms`)
    await sleep(20)
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = openSocket({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
