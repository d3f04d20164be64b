/**
 * Resident memory of this process and everything that it started, sampled. Pages that several processes share, the
 * runtime's own code above all, are counted once: the sum of the kernel's proportional set sizes.
 */
import { readdir, readFile } from 'node:fs/promises'

const sampleEveryMs = 1_000

/** Samples until stopped; `peakBytes` is the highest sum seen. */
export function watchPeakMemory(): { peakBytes(): number; stop(): void } {
  let peakBytes = process.memoryUsage.rss()
  const sample = async () => {
    peakBytes = Math.max(peakBytes, await residentBytesOfTree(process.pid))
  }
  const timer = setInterval(() => void sample(), sampleEveryMs)
  timer.unref()
  return {
    peakBytes: () => peakBytes,
    stop: () => clearInterval(timer),
  }
}

/** Where there is no /proc, only this process is counted. */
async function residentBytesOfTree(root: number): Promise<number> {
  const processes = await readProcesses().catch(() => undefined)
  if (processes === undefined) return process.memoryUsage.rss()
  const tree = new Set([root])
  let grown = true
  while (grown) {
    const before = tree.size
    for (const { pid, parent } of processes) if (tree.has(parent)) tree.add(pid)
    grown = tree.size > before
  }
  const bytes = await Promise.all([...tree].map(residentBytesOf))
  return bytes.reduce((sum, each) => sum + each, 0)
}

interface ProcessInfo {
  readonly pid: number
  readonly parent: number
}

async function readProcesses(): Promise<ProcessInfo[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const infos = await Promise.all(pids.map((pid) => readProcess(Number(pid)).catch(() => undefined)))
  return infos.filter((info) => info !== undefined)
}

async function readProcess(pid: number): Promise<ProcessInfo> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  // The name in parentheses may hold anything; what follows it is fixed: state, then the parent.
  return { pid, parent: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) }
}

/** 0 for a process that has ended meanwhile. */
async function residentBytesOf(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
  return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? 0) * 1024
}
