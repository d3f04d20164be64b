import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { File } from './house.ts'
import { checkTidy } from './tidy.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const skipped = new Set(['node_modules', '.git', '.slipway', '.nx', 'gen', 'coverage', '.backends'])
const read = /(\.(ts|mts|mjs|md)|package(-lock)?\.json)$/

function readTree(directory: string): File[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return skipped.has(entry.name) ? [] : readTree(path)
    if (!read.test(entry.name)) return []
    return [{ path: relative(root, path).split(sep).join('/'), text: readFileSync(path, 'utf8') }]
  })
}

test('the repository is tidy', () => {
  const found = checkTidy(readTree(root)).map(({ rule, path, line, what }) => `${path}:${line} ${rule}: ${what}`)
  expect(found).toEqual([])
})

const packages: File[] = [
  { path: 'package.json', text: '{"name":"slipway","devDependencies":{"vitest":"5.1.1"}}' },
  { path: 'proto/package.json', text: '{"name":"@slipway/proto"}' },
  {
    path: 'libs/rpc/package.json',
    text: '{"name":"@slipway/rpc","dependencies":{"@slipway/proto":"*","@grpc/grpc-js":"1.14.7"}}',
  },
  {
    path: 'libs/events/package.json',
    text: '{"name":"@slipway/events","dependencies":{"@slipway/rpc":"*","kafkajs":"2.2.4"},"devDependencies":{"@connectrpc/connect":"2.2.0"}}',
  },
  {
    path: 'services/registry/package.json',
    text: '{"name":"@slipway/registry","dependencies":{"@slipway/rpc":"*","@slipway/inference":"*"}}',
  },
  {
    path: 'services/inference/package.json',
    text: '{"name":"@slipway/inference","dependencies":{"@slipway/rpc":"*"}}',
  },
]

function violations(...files: File[]): string[] {
  const named = new Set(files.map(({ path }) => path))
  const found = checkTidy([...packages.filter(({ path }) => !named.has(path)), ...files])
  return found.map(({ rule, line, what }) => `${line} ${rule}: ${what}`)
}

const file = (path: string, ...lines: string[]): File => ({ path, text: `${lines.join('\n')}\n` })

describe('a fixture that breaks a rule is found', () => {
  test('an import that package.json does not declare', () => {
    expect(
      violations(
        file('libs/rpc/a.ts', "import 'left-pad'", "import 'node:fs'", "import type { X } from '@scope/deep/path'"),
      ),
    ).toEqual([
      '1 imports are declared: left-pad is not in its package.json',
      '3 imports are declared: @scope/deep is not in its package.json',
    ])
  })

  test('a development dependency in what ships, not in its test', () => {
    const line = "import '@connectrpc/connect'"
    expect(violations(file('libs/events/a.ts', line))).toEqual([
      '1 imports are declared: @connectrpc/connect is a development dependency, for tests only',
      '1 third parties stay behind their adapter: @connectrpc/connect is not for this file',
    ])
    expect(violations(file('libs/events/a.test.ts', line, "import 'vitest'"))).toEqual([])
  })

  test('a service that imports a service', () => {
    expect(violations(file('services/registry/a.ts', "import { x } from '@slipway/inference/main'"))).toEqual([
      '1 proto <- libs <- services: services/registry may not import services/inference',
    ])
  })

  test('a lib that imports a service, statically, dynamically or for a type', () => {
    const declared = file('libs/rpc/package.json', '{"name":"@slipway/rpc","dependencies":{"@slipway/registry":"*"}}')
    const lines = [
      "await import('@slipway/registry')",
      "type R = import('@slipway/registry').R",
      "export type { R } from '@slipway/registry'",
    ]
    expect(violations(declared, file('libs/rpc/a.ts', ...lines))).toEqual(
      [1, 2, 3].map((line) => `${line} proto <- libs <- services: libs/rpc may not import services/registry`),
    )
  })

  test('libs that import each other', () => {
    const declared = file('libs/rpc/package.json', '{"name":"@slipway/rpc","dependencies":{"@slipway/events":"*"}}')
    const found = violations(
      declared,
      file('libs/rpc/a.ts', "import '@slipway/events'"),
      file('libs/events/a.ts', "import '@slipway/rpc'"),
    )
    expect(found).toContain('1 libs form no cycle: imports @slipway/events, which imports it')
  })

  test('a path that leaves its package', () => {
    expect(violations(file('libs/rpc/a.ts', "import '../events/b.ts'", "import './b.ts'"))).toEqual([
      '1 imports stay inside the package: ../events/b.ts leaves libs/rpc',
    ])
    const starts = "import { startKafka } from '../../tools/backends/index.ts'"
    expect(violations(file('libs/rpc/a.test.ts', starts))).toEqual([])
    expect(violations(file('libs/rpc/a.ts', starts))).toHaveLength(1)
  })

  test('a third-party package outside its adapter', () => {
    expect(violations(file('libs/events/embedded.ts', "import { Kafka } from 'kafkajs'"))).toEqual([
      '1 third parties stay behind their adapter: kafkajs is not for this file',
    ])
    expect(violations(file('libs/events/kafka-bus.ts', "import { Kafka } from 'kafkajs'"))).toEqual([])
  })

  test('process.env and process.exit outside an entry', () => {
    const lines = ['process.env.HOME', 'process.exit(1)', 'process.stderr.write("")']
    expect(violations(file('services/registry/config.ts', ...lines))).toEqual([
      '1 the process belongs to entries: process.env outside an entry',
      '2 the process belongs to entries: process.exit outside an entry',
    ])
    expect(violations(file('services/registry/main.ts', ...lines))).toEqual([])
  })

  test('a clock or chance in a thinking module', () => {
    const stats = file('libs/stats/package.json', '{"name":"@slipway/stats"}')
    expect(violations(stats, file('libs/stats/a.ts', 'new Date()', 'Math.random()', 'Math.max(1)', '// Date'))).toEqual(
      [
        '1 thinking modules know no clock and no chance: Date',
        '2 thinking modules know no clock and no chance: Math.random',
      ],
    )
  })

  test('an attribute whose name is written out', () => {
    expect(violations(file('libs/rpc/a.ts', "span.setAttributes({ 'slipway.model': name, plain: 1 })"))).toEqual([
      '1 telemetry takes its names from one module: slipway.model is written out',
    ])
  })

  test('export * and export default', () => {
    expect(violations(file('libs/rpc/a.ts', "export * from './b.ts'", 'export default 1'))).toEqual([
      '1 exports are named: export *',
      '2 exports are named: export default',
    ])
  })

  test('an export without a doc comment', () => {
    const lines = [
      '/** Says what. */',
      'export const a = 1',
      '// not a doc',
      'export function b() {}',
      "export { c } from './c.ts'",
    ]
    expect(violations(file('libs/rpc/a.ts', ...lines))).toEqual(['4 every export is documented: b has no doc comment'])
  })

  test('a file over 300 lines, a test over 600', () => {
    const long = (length: number) => Array.from({ length }, () => '//')
    expect(violations(file('libs/rpc/a.ts', ...long(301)))).toEqual(['300 files are short: 301 lines, 300 allowed'])
    expect(violations(file('libs/rpc/a.ts', ...long(300)), file('libs/rpc/a.test.ts', ...long(600)))).toEqual([])
  })

  test('a function over 70 lines of its own', () => {
    const body = (length: number) => Array.from({ length }, () => '  //')
    expect(violations(file('libs/rpc/a.ts', 'function a() {', ...body(69), '}'))).toEqual([
      '1 functions are short: 71 lines, 70 allowed',
    ])
    const nested = ['function a() {', '  const b = () => {', ...body(60), '  }', ...body(60), '}']
    expect(violations(file('libs/rpc/a.ts', ...nested))).toEqual([])
  })

  test.each(['libs/rpc/string-utils.ts', 'libs/rpc/helpers/a.ts', 'libs/rpc/queue-manager.ts', 'libs/rpc/impl.ts'])(
    'the name %s',
    (path) => {
      expect(violations(file(path, '//'))).toEqual([expect.stringContaining('names say what is inside')])
    },
  )

  test('a file name that is not kebab-case', () => {
    expect(violations(file('libs/rpc/messageQueue.ts', '//'))).toEqual([
      '1 names say what is inside: file names are kebab-case',
    ])
  })

  test('index.ts below the root of a lib, or in a service', () => {
    const found = violations(
      file('libs/rpc/deep/index.ts', '//'),
      file('services/registry/index.ts', '//'),
      file('libs/rpc/index.ts', '//'),
    )
    expect(found).toEqual([
      '1 index.ts is the door of a lib: only at the root of a lib',
      '1 index.ts is the door of a lib: only at the root of a lib',
    ])
  })

  test('a page with two titles or none, code aside', () => {
    expect(violations(file('docs/a.md', '# One', '```', '# comment', '```', '# Two'))).toEqual([
      '5 a page has one title: 2 first-level headings',
    ])
    expect(violations(file('docs/a.md', 'no title'))).toEqual(['1 a page has one title: 0 first-level headings'])
  })

  test('a version range', () => {
    expect(
      violations(
        file(
          'libs/rpc/package.json',
          '{"name":"@slipway/rpc","dependencies":{',
          '"kysely":"^0.29.9","@slipway/proto":"*"}}',
        ),
      ),
    ).toEqual(['2 versions are exact: kysely ^0.29.9'])
  })

  test('a lockfile that names a registry', () => {
    const text = '{\n"resolved": "https://registry.example/a.tgz"}'
    expect(violations({ path: 'package-lock.json', text })).toEqual([
      '2 the lockfile names no registry: "resolved": "https://registry.example/a.tgz"',
    ])
  })

  test('a lockfile that leaves a platform out', () => {
    const packages = {
      'node_modules/tool': { optionalDependencies: { 'tool-linux': '1.0.0', 'tool-darwin': '1.0.0' } },
      'node_modules/tool-linux': {},
    }
    const text = JSON.stringify({ packages }, undefined, 2)
    expect(violations({ path: 'package-lock.json', text })).toEqual([
      '3 the lockfile serves every platform: tool-darwin has no entry',
    ])
  })
})
