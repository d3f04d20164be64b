/** The repository as the style rules see it: packages, and source files with their owner. */
import { posix } from 'node:path'
import type { SourceFacts } from './source.ts'
import { readSource } from './source.ts'

/** A file as the rules see it; the path is relative to the root, with forward slashes. */
export interface File {
  readonly path: string
  readonly text: string
}

/** A package of the workspace and what it declares. */
export interface Package {
  readonly name: string
  readonly directory: string
  readonly dependencies: ReadonlySet<string>
  readonly developmentDependencies: ReadonlySet<string>
}

/** A source file, parsed. */
export interface Source extends File {
  readonly facts: SourceFacts
  readonly owner: Package
  readonly isTest: boolean
}

/** Everything the rules look at. */
export interface House {
  readonly files: readonly File[]
  readonly sources: readonly Source[]
  readonly packages: readonly Package[]
}

/** Parses the sources and finds the package of each. */
export function readHouse(files: readonly File[]): House {
  const packages = files.filter(({ path }) => posix.basename(path) === 'package.json').map(readPackage)
  const deepestFirst = packages.toSorted((a, b) => b.directory.length - a.directory.length)
  const sources = files.filter(isSource).map((file) => {
    const owner = deepestFirst.find(({ directory }) => directory === '' || file.path.startsWith(`${directory}/`))
    if (owner === undefined) throw new Error(`${file.path} belongs to no package`)
    return { ...file, owner, isTest: isTestPath(file.path), facts: readSource(file.path, file.text) }
  })
  return { files, sources, packages }
}

function readPackage({ path, text }: File): Package {
  const declared = JSON.parse(text) as Record<string, Record<string, string> | undefined> & { name: string }
  const directory = posix.dirname(path)
  return {
    name: declared.name,
    directory: directory === '.' ? '' : directory,
    dependencies: new Set(Object.keys({ ...declared.dependencies, ...declared.optionalDependencies })),
    developmentDependencies: new Set(Object.keys(declared.devDependencies ?? {})),
  }
}

/** The package of a bare specifier; none for relative paths and Node's own modules. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith('.') || specifier.startsWith('node:')) return undefined
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0]
}

/** A file of TypeScript or JavaScript. */
export function isSource({ path }: File): boolean {
  return /\.(ts|mts|mjs)$/.test(path)
}

/** Tests, and the contract tests and fakes that only tests import. */
export function isTestPath(path: string): boolean {
  return /(^|[./])(test|contract|fixture|fake)\.ts$/.test(path) || path.startsWith('tests/')
}

/** What builds and checks the repository may use what only development needs. */
export function isTooling(path: string): boolean {
  return path.startsWith('tools/') || path === 'vitest.config.ts'
}
