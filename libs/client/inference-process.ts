/** The inference service as a process of its own, started and watched by a command. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'

const PACKAGE = '@slipway/inference'
const MAX_KEPT_LINES = 100

/** A line of the service's log. */
export interface LogLine {
  readonly level: string
  readonly message: string
  readonly [attribute: string]: unknown
}

/** A service that was started. */
export interface InferenceProcess {
  /** Asks it to drain and end. */
  drain(): void
  /** Resolves when it has ended: with its exit code, and what it said that was no log. */
  readonly ended: Promise<{ readonly code: number; readonly said: readonly string[] }>
}

/** Starts the service. Throws an Error that says what to install when its package is not there. */
export function startInference(
  settings: Readonly<Record<string, string | undefined>>,
  onLog: (line: LogLine) => void,
  resolve: (name: string) => string = (name) => import.meta.resolve(name),
): InferenceProcess {
  // The channel carries nothing: it closes when this process is gone, however it ends, and then the service stops.
  const stdio: StdioOptions = ['ignore', 'ignore', 'pipe', 'ipc']
  const child = spawn(process.execPath, [entryOf(resolve)], { env: settings, stdio })
  if (child.stderr === null) throw new Error('a process without stderr')
  const said: string[] = []
  const lines = read(child.stderr, (line) => {
    const log = parse(line)
    if (log !== undefined) onLog(log)
    else if (said.length < MAX_KEPT_LINES) said.push(line)
  })
  return { drain: () => child.kill('SIGTERM'), ended: end(child, lines, said) }
}

async function end(child: ChildProcess, lines: Promise<void>, said: readonly string[]) {
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  await lines
  return { code: code ?? 1, said: signal === null ? said : [...said, `it was ended by ${signal}`] }
}

async function read(stream: Readable, onLine: (line: string) => void): Promise<void> {
  for await (const line of createInterface(stream)) onLine(line)
}

function entryOf(resolve: (name: string) => string): string {
  try {
    return fileURLToPath(resolve(`${PACKAGE}/main`))
  } catch (cause) {
    const message = `this needs the package ${PACKAGE}, which is not installed here: npm install ${PACKAGE}`
    throw new Error(message, { cause })
  }
}

function parse(line: string): LogLine | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const value = JSON.parse(line) as Partial<LogLine>
    return typeof value.message === 'string' && typeof value.level === 'string' ? (value as LogLine) : undefined
  } catch {
    return undefined
  }
}
