/**
 * `npm run generate`: writes `proto/gen` from the proto files; with `--check` it writes nothing and fails when what is
 * committed differs from what would be written.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run } from './command.ts'

function main(args: readonly string[]): void {
  const ok = args.includes('--check') ? check() : run('buf', ['generate']).ok
  if (!ok) process.exitCode = 1
}

function check(): boolean {
  const fresh = mkdtempSync(join(tmpdir(), 'slipway-generate-'))
  try {
    if (!run('buf', ['generate', '--output', fresh]).ok) return false
    const differing = compare(join(fresh, 'proto', 'gen'), join(root, 'proto', 'gen'))
    for (const difference of differing) process.stderr.write(`proto/gen/${difference}\n`)
    if (differing.length > 0) process.stderr.write('proto/gen is not what the proto files say: npm run generate\n')
    return differing.length === 0
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

function compare(wanted: string, committed: string): string[] {
  const [wantedFiles, committedFiles] = [readFiles(wanted), readFiles(committed)]
  const missing = [...wantedFiles].filter(([path, text]) => committedFiles.get(path) !== text)
  const stale = [...committedFiles.keys()].filter((path) => !wantedFiles.has(path))
  return [...missing.map(([path]) => `${path} differs or is missing`), ...stale.map((path) => `${path} is left over`)]
}

function readFiles(directory: string): Map<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = entries.map((entry) => join(entry.parentPath, entry.name))
  return new Map(paths.map((path) => [path.slice(directory.length + 1), readFileSync(path, 'utf8')]))
}

main(process.argv.slice(2))
