/** `npm run bench -- [name]`: runs one benchmark and prints what it found; without a name it lists them. */
import { parseArgs } from 'node:util'
import type { Benchmark } from './benchmark.ts'
import { benchmarks } from './benchmarks.ts'
import { formatReport, formatTable } from './table.ts'

const USAGE = 'usage: npm run bench -- <name> [--json] [--seconds N] [--rounds N] [--seed N] [--set name=value]…\n'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string' },
    rounds: { type: 'string' },
    seed: { type: 'string', default: '1' },
    set: { type: 'string', multiple: true, default: [] },
  },
})
const [name, ...more] = positionals
if (name === undefined) {
  const all = await Promise.all(Object.values(benchmarks).map((load) => load()))
  process.stdout.write(`${USAGE}\n${formatTable([['name', 'measures'], ...all.map((one) => [one.name, one.summary])])}`)
  process.exit(0)
}
const load = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined
if (load === undefined || more.length > 0) exitWithUsage()
process.exitCode = await runBenchmark(await load())
process.exit()

/** 0 when every target was met, else 1. */
async function runBenchmark(benchmark: Benchmark): Promise<number> {
  const seconds = Number(values.seconds ?? benchmark.defaults.seconds)
  const rounds = Number(values.rounds ?? benchmark.defaults.rounds)
  const seed = Number(values.seed)
  if (!(seconds > 0) || !(rounds >= 1 && Number.isInteger(rounds)) || !Number.isSafeInteger(seed)) exitWithUsage()
  const parameters = Object.fromEntries(
    values.set.map((setting) => {
      const equals = setting.indexOf('=')
      return equals > 0 ? [setting.slice(0, equals), setting.slice(equals + 1)] : exitWithUsage()
    }),
  )
  const report = await benchmark.run(
    { seconds, rounds, seed, parameters },
    (text) => void process.stderr.write(`${text}\n`),
  )
  const { rows, data } = report
  const holds = rows.every((row) => row.holds !== false)
  const all = { benchmark: benchmark.name, seconds, rounds, seed, parameters, holds, figures: rows, ...objectOf(data) }
  process.stdout.write(values.json ? `${JSON.stringify(all, undefined, 2)}\n` : formatReport(report))
  return holds ? 0 : 1
}

function objectOf(data: unknown): object {
  return typeof data === 'object' && data !== null ? data : {}
}

function exitWithUsage(): never {
  process.stderr.write(USAGE)
  process.exit(2)
}
