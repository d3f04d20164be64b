/**
 * `npm run verify`: everything that CI checks, in the order in which it is cheap to fail. All steps run; the last lines
 * say which failed. `--skip-tests` leaves the tests out.
 */
import { run } from './command.ts'

interface Step {
  readonly name: string
  readonly command: readonly [string, ...string[]]
}

const steps: readonly Step[] = [
  { name: 'format and lint', command: ['biome', 'ci', '.'] },
  { name: 'proto lint', command: ['buf', 'lint'] },
  { name: 'proto breaking', command: ['node', 'tools/breaking.ts'] },
  { name: 'generated code', command: ['node', 'tools/generate.ts', '--check'] },
  { name: 'types', command: ['nx', 'run-many', '-t', 'typecheck', '--output-style=static'] },
  { name: 'tests', command: ['node', 'tools/test.ts'] },
]

function main(args: readonly string[]): void {
  const wanted = args.includes('--skip-tests') ? steps.filter(({ name }) => name !== 'tests') : steps
  const results = wanted.map((step) => ({ name: step.name, ...runStep(step) }))
  process.stdout.write('\n')
  for (const { name, ok, seconds } of results) {
    process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)\n`)
  }
  if (results.some(({ ok }) => !ok)) process.exitCode = 1
}

function runStep({ name, command: [command, ...args] }: Step): { ok: boolean; seconds: number } {
  process.stdout.write(`\n== ${name}: ${command} ${args.join(' ')}\n`)
  const startedMs = performance.now()
  const { ok } = run(command, args)
  return { ok, seconds: (performance.now() - startedMs) / 1000 }
}

main(process.argv.slice(2))
