/** Runs the parts of a benchmark in processes of their own, so that each one's CPU time can be told. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** CPU time of a process so far, all its threads together. */
export interface CpuTime {
  readonly micros: number
}

/** Memory of a process, after its garbage was collected. */
export interface Memory {
  /** JavaScript objects and the buffers that they hold. */
  readonly heldBytes: number
  readonly residentBytes: number
}

/** A process that answers calls over IPC: one message in, one message out, in order. */
export class BenchProcess {
  readonly #child: ChildProcess

  constructor(script: URL, args: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
    this.#child = fork(script, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Sends a message and waits for the next one that comes back. */
  async ask<T>(message: unknown): Promise<T> {
    const answer = this.next<T>()
    this.#child.send(message as object)
    return await answer
  }

  /** Waits for the next message. Rejects when the process ends first. */
  async next<T>(): Promise<T> {
    const stopping = new AbortController()
    try {
      const ended = once(this.#child, 'exit', { signal: stopping.signal }).then(([code]) => {
        throw new Error(`a process of the benchmark ended with ${code}`)
      })
      const [message] = await Promise.race([once(this.#child, 'message', { signal: stopping.signal }), ended])
      return message as T
    } finally {
      stopping.abort()
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}

/** For a script that is such a process: answers `'cpu'` and `'memory'` itself, hands everything else to `answer`. */
export function answerParent(answer: (message: unknown) => Promise<unknown>): void {
  process.on('message', (message) => {
    if (message === 'cpu') {
      const { user, system } = process.cpuUsage()
      process.send?.({ micros: user + system } satisfies CpuTime)
      return
    }
    if (message === 'memory') {
      process.send?.(memory())
      return
    }
    void answer(message).then((result) => process.send?.(result as object))
  })
  process.on('disconnect', () => process.exit(0))
}

function memory(): Memory {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect === 'function') for (let time = 0; time < 3; time++) collect()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heldBytes: heapUsed + external, residentBytes: rss }
}
