/** Runs the flights story as a person would, in a process of its own, on free ports and in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Summary } from '@slipway/flights'
import { freePortBase } from './ports.fixture.ts'

const main = fileURLToPath(new URL('../deploy/standalone/main.ts', import.meta.url))

/** A story that is being played. */
export interface Play {
  /** Everything said on stderr so far. */
  said(): string
  /** Resolves when stderr matches; rejects when the process ends first. */
  untilSaid(pattern: RegExp): Promise<void>
  /** Process id of a service's own process. */
  pidOf(service: string): Promise<number>
  /** Resolves with what the process left. */
  readonly ended: Promise<{ code: number | null; summary: Summary | undefined }>
  kill(signal: NodeJS.Signals): void
}

/** Starts `npm start -- --once --json` with more arguments. */
export async function play(...args: readonly string[]): Promise<Play> {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-play-'))
  const base = await freePortBase()
  const flags = ['--once', '--json', '--data-dir', join(directory, 'data'), '--port-base', String(base), ...args]
  const child = spawn(process.execPath, [main, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  const listeners = new Set<() => void>()
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    for (const listener of listeners) listener()
  })
  const ended = new Promise<{ code: number | null; summary: Summary | undefined }>((resolve) => {
    child.once('close', (code) => resolve({ code, summary: stdout === '' ? undefined : JSON.parse(stdout) }))
  }).finally(() => rm(directory, { recursive: true, force: true }))
  return {
    said: () => stderr,
    untilSaid: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!pattern.test(stderr)) return
          listeners.delete(look)
          resolve()
        }
        listeners.add(look)
        child.once('close', () => reject(new Error(`ended without saying ${pattern}:\n${stderr}`)))
        look()
      }),
    pidOf: (service) => pidOf(child, service),
    ended,
    kill: (signal) => child.kill(signal),
  }
}

async function pidOf(parent: ChildProcess, service: string): Promise<number> {
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    const isChild = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent.pid
    const command = isChild ? await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '') : ''
    if (command.includes(`services/${service}/main.ts`)) return Number(entry)
  }
  throw new Error(`there is no process of ${service}`)
}
