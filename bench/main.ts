/** `npm run bench -- <name> [--json] [--seconds N] [--rounds N]`: runs one benchmark and prints what it found. */
import { parseArgs } from 'node:util'
import { type HotPathReport, hotPath } from './hot-path.ts'

const USAGE = 'usage: npm run bench -- hot-path [--json] [--seconds N] [--rounds N]\n'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '0.8' },
    rounds: { type: 'string', default: '5' },
  },
})
const seconds = Number(values.seconds)
const rounds = Number(values.rounds)
if (positionals[0] !== 'hot-path' || !(seconds > 0) || !(rounds >= 1 && Number.isInteger(rounds))) {
  process.stderr.write(USAGE)
  process.exit(2)
}

const onLine = (name: string, round: number): void =>
  void process.stderr.write(`${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}: ${name}\n`)
const report = await hotPath({ warmUpMs: 300, measureMs: seconds * 1000, rounds, onLine })
process.stdout.write(values.json ? `${JSON.stringify(report, undefined, 2)}\n` : table(report))
process.exit(0)

function table({ rows }: HotPathReport): string {
  const head = [
    '',
    'callers',
    'calls/s',
    'CPU µs/call',
    'CPU ratio',
    'speed ratio',
    'p50 ms',
    'p99 ms',
    'failed',
    'CPU by process',
  ]
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
    Object.entries(row.cpuByProcess)
      .map(([name, micros]) => `${name} ${micros.toFixed(1)}`)
      .join(', '),
  ])
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)))
  const format = (line: readonly string[]): string =>
    line
      .map((cell, column) => {
        const isText = column === 0 || column === head.length - 1
        return isText ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)
      })
      .join('  ')
      .trimEnd()
  return `${[head, ...lines].map(format).join('\n')}\n`
}
