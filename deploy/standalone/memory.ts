/** Memory of this process and everything that it started, sampled. */
import { readdir, readFile } from 'node:fs/promises'

const sampleEveryMs = 500
const pageBytes = 4096

/** Samples until stopped; `peakBytes` is the highest sum of resident memory seen. */
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
  return processes.filter(({ pid }) => tree.has(pid)).reduce((sum, { residentBytes }) => sum + residentBytes, 0)
}

interface ProcessInfo {
  readonly pid: number
  readonly parent: number
  readonly residentBytes: number
}

async function readProcesses(): Promise<ProcessInfo[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const infos = await Promise.all(pids.map((pid) => readProcess(Number(pid)).catch(() => undefined)))
  return infos.filter((info) => info !== undefined)
}

async function readProcess(pid: number): Promise<ProcessInfo> {
  const [stat, statm] = await Promise.all([
    readFile(`/proc/${pid}/stat`, 'utf8'),
    readFile(`/proc/${pid}/statm`, 'utf8'),
  ])
  // The name in parentheses may hold anything; what follows it is fixed: state, then the parent.
  const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  return { pid, parent, residentBytes: Number(statm.split(' ')[1]) * pageBytes }
}
