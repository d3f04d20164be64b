/** `npm run bench -- <name> [--json] [--seconds N]`: runs one benchmark and prints what it found. */
import { parseArgs } from 'node:util'
import { type HotPathReport, hotPath } from './hot-path.ts'
import type { Row } from './measure.ts'

const USAGE = 'usage: npm run bench -- hot-path [--json] [--seconds N]\n'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, seconds: { type: 'string', default: '3' } },
})

const seconds = Number(values.seconds)
if (positionals[0] !== 'hot-path' || !(seconds > 0)) {
  process.stderr.write(USAGE)
  process.exit(2)
}

const progress = (row: Row): void => void process.stderr.write(`${row.name}, ${row.callers} callers\n`)
const report = await hotPath({ warmUpMs: 1000, measureMs: seconds * 1000 }, progress)
process.stdout.write(values.json ? `${JSON.stringify(report, undefined, 2)}\n` : table(report))
process.exit(0)

function table({ rows }: HotPathReport): string {
  const head = ['', 'callers', 'calls/s', 'CPU µs/call', 'CPU ratio', 'speed ratio', 'p50 ms', 'p99 ms', 'failed']
  const lines = rows.map((row) => [
    row.name,
    String(row.callers),
    row.callsPerSecond.toFixed(0),
    row.cpuMicrosPerCall.toFixed(1),
    row.cpuRatio.toFixed(2),
    row.speedRatio.toFixed(2),
    row.p50Ms.toFixed(3),
    row.p99Ms.toFixed(3),
    String(row.failed),
  ])
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => (line[column] ?? '').length)),
  )
  const format = (line: readonly string[]): string =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
  return `${[head, ...lines].map(format).join('\n')}\n`
}
