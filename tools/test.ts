/**
 * `npm test`: the tests of the whole workspace, against real servers where this machine has them.
 *
 * Arguments go to Vitest (`npm test -- libs/rpc -t drain`). The last line says `N passed, N failed, N skipped`.
 */
import { fileURLToPath } from 'node:url'
import type { Vitest } from 'vitest/node'
import { parseCLI, startVitest } from 'vitest/node'

interface Counts {
  passed: number
  failed: number
  skipped: number
}

async function main(args: readonly string[]): Promise<void> {
  process.chdir(fileURLToPath(new URL('..', import.meta.url)))
  const { filter, options } = parseCLI(['vitest', 'run', ...args])
  const vitest = await startVitest('test', [...filter], options)
  const { passed, failed, skipped } = count(vitest)
  await vitest.close()
  if (failed > 0) process.exitCode = 1
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`)
}

/** A file that does not load and an error outside of every test count as failed tests. */
function count(vitest: Vitest): Counts {
  const counts: Counts = { passed: 0, failed: vitest.state.getUnhandledErrors().length, skipped: 0 }
  for (const module of vitest.state.getTestModules()) {
    if (module.errors().length > 0) counts.failed += 1
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      counts[state === 'pending' ? 'failed' : state] += 1
    }
  }
  return counts
}

await main(process.argv.slice(2))
