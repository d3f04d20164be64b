/** The hot path's figures beside what they should be. */
import { atLeast, atMost, type Benchmark, type Figure, informs } from './benchmark.ts'
import { type HotPathReport, hotPath, type ReportRow } from './hot-path.ts'

const HEAD = [
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

/** See hot-path.ts. */
export const hotPathBenchmark: Benchmark = {
  name: 'hot-path',
  summary: 'what a prediction costs on each part of its way, against a grpc-js server that only echoes',
  defaults: { seconds: 2, rounds: 5 },
  async run({ seconds, rounds }, progress) {
    const onLine = (name: string, round: number): void =>
      progress(`${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}: ${name}`)
    const report = await hotPath({ warmUpMs: 600, measureMs: seconds * 1000, rounds, onLine })
    return { rows: figuresOf(report), details: [HEAD, ...report.rows.map(cellsOf)], data: report }
  },
}

function figuresOf({ rows }: HotPathReport): Figure[] {
  const find = (name: string, callers: number): ReportRow | undefined =>
    rows.find((row) => row.name === name && row.callers === callers)
  const unary = find('inference, unary', 64)
  const one = find('inference, unary', 1)
  const streams = ([8, 32, 128] as const).map((callers) => ({
    callers,
    row: find('inference, stream', callers),
    framed: find('inference, stream, a frame a message', callers),
  }))
  const targets = { 8: 0.8, 32: 2.5, 128: 7 }
  return [
    atMost('unary, 64 callers: server CPU per call, of the echo', unary?.cpuRatio ?? Number.NaN, 0.85, '×'),
    atMost('unary, one caller: mean latency, of the echo', one?.meanRatio ?? Number.NaN, 1.4, '×'),
    ...streams.flatMap(({ callers, row, framed }) => {
      const name = `stream, ${callers} in flight: inferences/s, of unary with 64 callers`
      return [
        atLeast(name, row?.unaryRatio ?? Number.NaN, targets[callers], '×'),
        informs(`${name}, from a caller that sends a frame for each message`, framed?.unaryRatio ?? Number.NaN, '×'),
      ]
    }),
  ]
}

function cellsOf(row: ReportRow): string[] {
  return [
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
  ]
}
