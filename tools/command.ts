/** Runs the commands that the scripts of this folder are made of. */
import { spawnSync } from 'node:child_process'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the repository. */
export const root = fileURLToPath(new URL('..', import.meta.url))

/** How a command ended, and what it wrote on standard output when that was asked for. */
export interface CommandResult {
  readonly ok: boolean
  readonly output: string
}

/** What becomes of a command's output. */
export interface RunOptions {
  /** Returned instead of shown. */
  readonly capture?: boolean
  /** What it writes on standard error is not shown either. */
  readonly quiet?: boolean
}

/** Runs a command in the root with the installed tools first on the path; its output is shown, or captured. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): CommandResult {
  const path = [join(root, 'node_modules', '.bin'), process.env.PATH ?? ''].join(delimiter)
  const result = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, PATH: path },
    encoding: 'utf8',
    stdio: ['ignore', options.capture ? 'pipe' : 'inherit', options.quiet ? 'ignore' : 'inherit'],
    maxBuffer: 64 * 1024 * 1024,
  })
  if (result.error !== undefined) process.stderr.write(`${command}: ${result.error.message}\n`)
  return { ok: result.status === 0, output: result.stdout ?? '' }
}
