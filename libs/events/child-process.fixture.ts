import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** A running `child.fixture.ts`. */
export interface Child {
  /** The numbers that it wrote so far. */
  readonly numbers: readonly number[]
  /** Waits until it has written so many. */
  wrote(count: number): Promise<void>
  /** Kills it with -9 and waits until it is gone and all that it wrote is read. */
  kill(): Promise<void>
  /** Tells it to close its bus and waits until it has come to its end by itself; resolves to its exit code. */
  close(): Promise<number | null>
}

/** Starts a process to be killed. */
export function startChild(...args: readonly string[]): Child {
  const script = fileURLToPath(new URL('./child.fixture.ts', import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const numbers: number[] = []
  const waiting: { readonly count: number; readonly resolve: () => void }[] = []
  if (child.stdout === null) throw new Error('no output')
  const lines = createInterface({ input: child.stdout })
  const ended = new Promise<void>((resolve) => lines.once('close', resolve))
  lines.on('line', (line) => {
    numbers.push(Number(line))
    for (const one of waiting) if (numbers.length >= one.count) one.resolve()
  })
  return {
    numbers,
    wrote: (count) =>
      numbers.length >= count ? Promise.resolve() : new Promise((resolve) => waiting.push({ count, resolve })),
    kill: async () => {
      child.kill('SIGKILL')
      await ended
    },
    close: async () => {
      const exit = once(child, 'exit')
      child.kill('SIGTERM')
      const [code] = await exit
      return code
    },
  }
}
