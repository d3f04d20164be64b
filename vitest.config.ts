import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

const settings = {
  pool: 'forks',
  setupFiles: ['tools/quiet-logs.ts', 'tools/repeatable-properties.ts'],
  testTimeout: 30_000,
  hookTimeout: 60_000,
  // What a test waits for comes in its own time: only the test's own limit says that it does not come at all.
  expect: { poll: { timeout: 25_000, interval: 10 } },
} as const

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...settings,
          name: 'packages',
          include: ['{libs,services,deploy,examples,bench,tools}/**/*.test.ts'],
          sequence: { groupOrder: 1 },
          maxWorkers: availableParallelism(),
        },
      },
      {
        // Tests of the whole system start many processes: they run after all others, and one file at a time.
        test: {
          ...settings,
          name: 'system',
          include: ['tests/**/*.test.ts'],
          sequence: { groupOrder: 2 },
          maxWorkers: 1,
        },
      },
    ],
  },
})
