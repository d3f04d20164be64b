#!/usr/bin/env node
/** The `slipway` command: reads the command line, runs one command, and ends with 0, 1 (it failed) or 2 (it is wrong). */
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { runCli } from './run-cli.ts'

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort())
  process.exitCode = await runCli(process.argv.slice(2), {
    env: process.env,
    signal: interrupt.signal,
    terminal: {
      out: (text) => process.stdout.write(text),
      err: (text) => process.stderr.write(text),
      width: process.stdout.columns ?? 100,
      colours: process.stdout.isTTY === true && process.env.NO_COLOR === undefined,
      drawsProgress: process.stderr.isTTY === true,
    },
  })
}
