import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{libs,services,deploy,examples,bench,tests,tools}/**/*.test.ts'],
    pool: 'forks',
    setupFiles: ['tools/quiet-logs.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
