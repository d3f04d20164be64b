/**
 * Compares the proto files with those of an earlier commit: what was said on the wire must still be understood.
 *
 * `node tools/breaking.ts [commit]`; without one, the fork point from `main`, or on `main` the commit before.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run } from './command.ts'

function main(commit: string | undefined): void {
  const base = commit ?? earlierCommit()
  if (base === undefined) {
    process.stdout.write('no earlier commit here to compare the proto files with\n')
    return
  }
  process.stdout.write(`proto files against ${base.slice(0, 12)}\n`)
  if (!compareWith(base)) process.exitCode = 1
}

function earlierCommit(): string | undefined {
  const head = git('rev-parse', 'HEAD')
  const fork = git('merge-base', 'HEAD', 'origin/main') ?? git('merge-base', 'HEAD', 'main')
  return fork === undefined || fork === head ? git('rev-parse', '--verify', '--quiet', 'HEAD~1') : fork
}

function git(...args: string[]): string | undefined {
  const { ok, output } = run('git', args, { capture: true, quiet: true })
  return ok && output !== '' ? output.trim() : undefined
}

/** The earlier tree is laid out beside the packages that its imports come from. */
function compareWith(commit: string): boolean {
  const earlier = mkdtempSync(join(tmpdir(), 'slipway-breaking-'))
  try {
    const archive = join(earlier, 'earlier.tar')
    if (!run('git', ['archive', '--output', archive, commit, 'buf.yaml', 'proto']).ok) return false
    if (!run('tar', ['-xf', archive, '-C', earlier]).ok) return false
    const imported = join('node_modules', 'google-proto-files', 'google', 'rpc')
    cpSync(join(root, imported), join(earlier, imported), { recursive: true })
    return run('buf', ['breaking', '--against', earlier]).ok
  } finally {
    rmSync(earlier, { recursive: true, force: true })
  }
}

main(process.argv[2])
