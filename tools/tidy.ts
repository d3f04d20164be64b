/**
 * The rules of the house that no linter knows. `tidy.test.ts` runs them over the repository and over fixtures that
 * break each of them.
 */
import { posix } from 'node:path'
import type { File, House } from './house.ts'
import { isSource, isTestPath, isTooling, packageOf, readHouse } from './house.ts'
import { adapters, entries, exceptions, limits, pure } from './tidy-tables.ts'

/** One place where a rule is broken. */
export interface Violation {
  readonly rule: string
  readonly path: string
  readonly line: number
  readonly what: string
}

type Rule = (house: House) => Iterable<Omit<Violation, 'rule'>>

/** Every violation of every rule, in the order of the rules. */
export function checkTidy(files: readonly File[]): Violation[] {
  const house = readHouse(files)
  return Object.entries(rules).flatMap(([rule, check]) =>
    [...check(house)].map((violation) => ({ rule, ...violation })),
  )
}

const rules: Readonly<Record<string, Rule>> = {
  'imports are declared': function* ({ sources, packages }) {
    const root = packages.find(({ directory }) => directory === '')
    for (const { path, facts, owner, isTest } of sources) {
      for (const { specifier, line } of facts.imports) {
        const name = packageOf(specifier)
        if (name === undefined || name === owner.name || owner.dependencies.has(name)) continue
        const development = owner.developmentDependencies.has(name) || root?.developmentDependencies.has(name)
        if (development && (isTest || isTooling(path))) continue
        const known = development ? 'is a development dependency, for tests only' : 'is not in its package.json'
        yield { path, line, what: `${name} ${known}` }
      }
    }
  },

  'proto <- libs <- services': function* ({ sources, packages }) {
    const directories = new Map(packages.map(({ name, directory }) => [name, directory]))
    for (const { path, facts, owner } of sources) {
      for (const { specifier, line } of facts.imports) {
        const target = directories.get(packageOf(specifier) ?? '')
        if (target === undefined || target === owner.directory) continue
        if (storeyOf(target) < storeyOf(owner.directory)) continue
        if (storeyOf(target) === storeyOf(owner.directory) && storeyOf(target) !== storey.services) continue
        yield { path, line, what: `${owner.directory} may not import ${target}` }
      }
    }
  },

  'libs form no cycle': function* ({ sources }) {
    const edges = new Map<string, Set<string>>()
    for (const { facts, owner, isTest } of sources) {
      if (isTest || !owner.directory.startsWith('libs/')) continue
      const targets = edges.get(owner.name) ?? new Set()
      for (const { specifier } of facts.imports) targets.add(packageOf(specifier) ?? owner.name)
      edges.set(owner.name, targets)
    }
    for (const [name, targets] of edges) {
      const back = [...targets].find((target) => target !== name && reaches(edges, target, name))
      if (back !== undefined) yield { path: name, line: 1, what: `imports ${back}, which imports it` }
    }
  },

  'imports stay inside the package': function* ({ sources }) {
    for (const { path, facts, owner, isTest } of sources) {
      for (const { specifier, line } of facts.imports) {
        if (!specifier.startsWith('.')) continue
        const target = posix.join(posix.dirname(path), specifier)
        if (isTest && target.startsWith('tools/backends/')) continue
        if (!target.startsWith(`${owner.directory}/`))
          yield { path, line, what: `${specifier} leaves ${owner.directory}` }
      }
    }
  },

  'third parties stay behind their adapter': function* ({ sources }) {
    for (const { path, facts, isTest } of sources) {
      for (const { specifier, line, typeOnly } of facts.imports) {
        const allowed = adapters.find(({ name }) => name.test(packageOf(specifier) ?? ''))
        if (allowed === undefined || (isTest && allowed.tests) || (typeOnly && allowed.types)) continue
        if (!allowed.in.some((pattern) => pattern.test(path)))
          yield { path, line, what: `${specifier} is not for this file` }
      }
    }
  },

  'the process belongs to entries': function* ({ sources }) {
    const owned = new Set(['process.env', 'process.exit', 'process.argv'])
    for (const { path, facts, isTest } of sources) {
      if (isTest || entries.some((pattern) => pattern.test(path))) continue
      for (const { name, line } of facts.members)
        if (owned.has(name)) yield { path, line, what: `${name} outside an entry` }
    }
  },

  'thinking modules know no clock and no chance': function* ({ sources }) {
    const members = new Set(['Math.random', 'performance.now', 'process.hrtime', 'crypto.randomUUID'])
    for (const { path, facts, isTest } of sources) {
      if (isTest || !pure.some((pattern) => pattern.test(path))) continue
      for (const { name, line } of facts.names) if (name === 'Date') yield { path, line, what: 'Date' }
      for (const { name, line } of facts.members) if (members.has(name)) yield { path, line, what: name }
    }
  },

  'telemetry takes its names from one module': function* ({ sources }) {
    for (const { path, facts, isTest } of sources) {
      if (isTest || path === 'libs/telemetry/names.ts') continue
      for (const { name, line } of facts.stringKeys) {
        if (/^(slipway|rpc|messaging)\.[a-z_.]+$/.test(name)) yield { path, line, what: `${name} is written out` }
      }
    }
  },

  'exports are named': function* ({ sources }) {
    for (const { path, facts } of sources) {
      for (const line of facts.starExports) yield { path, line, what: 'export *' }
      if (path === 'vitest.config.ts') continue
      for (const line of facts.defaultExports) yield { path, line, what: 'export default' }
    }
  },

  'every export is documented': function* ({ sources }) {
    for (const { path, facts, isTest } of sources) {
      if (isTest) continue
      for (const { name, line } of facts.undocumented) yield { path, line, what: `${name} has no doc comment` }
    }
  },

  'files are short': function* ({ files }) {
    for (const { path, text } of files.filter(isSource)) {
      const lines = countLines(text)
      const limit = isTestPath(path) ? limits.testFileLines : limits.fileLines
      const allowed = exceptions.fileLines[path]
      if (allowed !== undefined && lines <= limit)
        yield { path, line: 1, what: `needs no exception any more: remove it` }
      else if (lines > (allowed ?? limit))
        yield { path, line: allowed ?? limit, what: `${lines} lines, ${allowed ?? limit} allowed` }
    }
  },

  'functions are short': function* ({ sources }) {
    for (const { path, facts, isTest } of sources) {
      if (isTest) continue
      const allowed = exceptions.functionLines[path] ?? limits.functionLines
      const longest = Math.max(0, ...facts.functions.map(({ ownLines }) => ownLines))
      if (path in exceptions.functionLines && longest <= limits.functionLines)
        yield { path, line: 1, what: 'needs no exception any more: remove it' }
      for (const { line, ownLines } of facts.functions)
        if (ownLines > allowed) yield { path, line, what: `${ownLines} lines, ${allowed} allowed` }
    }
  },

  'names say what is inside': function* ({ files }) {
    const banned = /(^|[-/.])(utils?|common|helpers?|base|managers?|impl|misc|shared)(?=[-/.])/
    for (const { path } of files.filter(isSource)) {
      const found = banned.exec(path)
      if (found !== null) yield { path, line: 1, what: `"${found[2]}" says nothing` }
      if (/[A-Z_ ]/.test(posix.basename(path))) yield { path, line: 1, what: 'file names are kebab-case' }
    }
  },

  'index.ts is the door of a lib': function* ({ files, packages }) {
    const doors = new Set(packages.map(({ directory }) => `${directory}/index.ts`))
    for (const { path } of files) {
      if (posix.basename(path) !== 'index.ts' || path === 'tools/backends/index.ts') continue
      if (!doors.has(path) || path.startsWith('services/')) yield { path, line: 1, what: 'only at the root of a lib' }
    }
  },

  'a page has one title': function* ({ files }) {
    for (const { path, text } of files.filter(({ path }) => path.endsWith('.md'))) {
      const titles = withoutCode(text).filter(({ content }) => /^# \S/.test(content))
      if (titles.length !== 1) yield { path, line: titles[1]?.line ?? 1, what: `${titles.length} first-level headings` }
    }
  },

  'versions are exact': function* ({ files }) {
    for (const { path, text } of files.filter(({ path }) => posix.basename(path) === 'package.json')) {
      for (const [name, version] of declaredVersions(text)) {
        const exact = name.startsWith('@slipway/') ? version === '*' : /^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)
        if (!exact) yield { path, line: lineOf(text, `"${name}"`), what: `${name} ${version}` }
      }
    }
  },

  'the lockfile names no registry': function* ({ files }) {
    for (const { path, text } of files.filter(({ path }) => path === 'package-lock.json')) {
      const found = /"resolved": "(?:https?|git)[^"]*"/.exec(text)
      if (found !== null) yield { path, line: lineOf(text, found[0]), what: found[0] }
    }
  },

  'the lockfile serves every platform': function* ({ files }) {
    for (const file of files.filter(({ path }) => path === 'package-lock.json')) yield* missingPlatforms(file)
  },
}

/** Without an entry for a platform's package `npm ci` refuses the lockfile on every platform. */
function* missingPlatforms({ path, text }: File) {
  const { packages } = JSON.parse(text) as {
    packages?: Record<string, { optionalDependencies?: Record<string, string> }>
  }
  const names = new Set(Object.keys(packages ?? {}).map((key) => key.replace(/^.*node_modules\//, '')))
  for (const [key, { optionalDependencies }] of Object.entries(packages ?? {})) {
    for (const name of Object.keys(optionalDependencies ?? {})) {
      if (!names.has(name)) yield { path, line: lineOf(text, `"${key}"`), what: `${name} has no entry` }
    }
  }
}

const storey = { proto: 0, libs: 1, services: 2, above: 3 } as const

function storeyOf(directory: string): number {
  const top = directory.split('/')[0]
  if (top === 'proto') return storey.proto
  if (top === 'libs') return storey.libs
  return top === 'services' ? storey.services : storey.above
}

function reaches(edges: ReadonlyMap<string, ReadonlySet<string>>, from: string, to: string): boolean {
  const seen = new Set<string>()
  const waiting = [from]
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    if (at === to) return true
    if (seen.has(at)) continue
    seen.add(at)
    waiting.push(...(edges.get(at) ?? []))
  }
  return false
}

function declaredVersions(text: string): [string, string][] {
  const declared = JSON.parse(text) as Record<string, Record<string, string> | undefined>
  return ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((key) =>
    Object.entries(declared[key] ?? {}),
  )
}

function countLines(text: string): number {
  return text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
}

function lineOf(text: string, part: string): number {
  return text.slice(0, text.indexOf(part)).split('\n').length
}

function withoutCode(text: string): { content: string; line: number }[] {
  let inCode = false
  return text.split('\n').flatMap((content, index) => {
    const fence = /^\s*(```|~~~)/.test(content)
    if (fence) inCode = !inCode
    return inCode || fence ? [] : [{ content, line: index + 1 }]
  })
}
