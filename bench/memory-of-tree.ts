/** Memory of a process and those that it started, as Linux tells it. */
import { readdirSync, readFileSync } from 'node:fs'

const LOOK_MS = 50
const KIBIBYTE = 1024

/** Looks at the resident memory of a process with its children until it is stopped, and tells the most that it saw. */
export function watchMemory(pid: number): { stop(): number } {
  let peak = 0
  const look = (): void => {
    peak = Math.max(peak, residentBytes(pid))
  }
  const timer = setInterval(look, LOOK_MS)
  return {
    stop: () => {
      look()
      clearInterval(timer)
      return peak
    },
  }
}

function residentBytes(pid: number): number {
  try {
    const [, own = '0'] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return Number(own) * KIBIBYTE + childrenOf(pid).reduce((sum, child) => sum + residentBytes(child), 0)
  } catch {
    // It has ended since.
    return 0
  }
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
}
