/**
 * `npm test`: the tests of the whole workspace, against real servers where this machine has them.
 *
 * Arguments go to Vitest (`npm test -- libs/rpc -t drain`). A server whose variable is set already is taken as it is.
 * With `REQUIRE_BACKENDS=1` each server that is missing counts as a failed test. The last line says
 * `N passed, N failed, N skipped`.
 */
import { fileURLToPath } from 'node:url'
import type { Vitest } from 'vitest/node'
import { parseCLI, startVitest } from 'vitest/node'
import { type Backends, startBackends } from './backends/index.ts'

interface Counts {
  passed: number
  failed: number
  skipped: number
}

const variables = {
  kafka: 'SLIPWAY_TEST_KAFKA',
  postgres: 'SLIPWAY_TEST_POSTGRES',
  redis: 'SLIPWAY_TEST_REDIS',
} as const

async function main(args: readonly string[]): Promise<void> {
  process.chdir(fileURLToPath(new URL('..', import.meta.url)))
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
  const backends = await openBackends()
  try {
    Object.assign(process.env, backends.env)
    const { filter, options } = parseCLI(['vitest', 'run', ...args])
    const vitest = await startVitest('test', [...filter], options)
    count(vitest, counts)
    await vitest.close()
  } finally {
    await backends.stop()
  }
  if (process.env.REQUIRE_BACKENDS === '1') counts.failed += backends.missing.length
  for (const { name, reason } of backends.missing) process.stdout.write(`without ${name}: ${reason}\n`)
  if (counts.failed > 0) process.exitCode = 1
  process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`)
}

async function openBackends(): Promise<Pick<Backends, 'env' | 'missing' | 'stop'>> {
  const names = Object.keys(variables) as (keyof typeof variables)[]
  const only = names.filter((name) => !process.env[variables[name]])
  const say = (line: string) => process.stdout.write(`${line}\n`)
  for (const name of names.filter((each) => !only.includes(each))) say(`${name}: testing against $${variables[name]}`)
  return await startBackends({ only, say })
}

/** A file that does not load and an error outside of every test count as failed tests. */
function count(vitest: Vitest, counts: Counts): void {
  counts.failed += vitest.state.getUnhandledErrors().length
  for (const module of vitest.state.getTestModules()) {
    if (module.errors().length > 0) counts.failed += 1
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      counts[state === 'pending' ? 'failed' : state] += 1
    }
  }
}

await main(process.argv.slice(2))
