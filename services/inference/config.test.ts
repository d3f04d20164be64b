import { readFileSync } from 'node:fs'
import { ConfigError } from '@slipway/config'
import { expect, test } from 'vitest'
import { loadConfig } from './config.ts'

const pages = [
  'README.md',
  ...['async', 'batch'].map((kind) => `../../docs/${kind}-predictions.md`),
  '../../docs/explanations.md',
]

/** The settings that the pages describe: those in the first cell of a row. */
function described(): Set<string> {
  const rows = pages.flatMap((page) => readFileSync(new URL(page, import.meta.url), 'utf8').split('\n'))
  const names = rows.flatMap((row) => /^\|([^|]*)\|/.exec(row)?.[1]?.match(/`SLIPWAY_\w+`/g) ?? [])
  return new Set(names.map((name) => name.slice(1, -1)))
}

/** The settings that the service reads when `set` are there. */
function read(set: Readonly<Record<string, string>>): Set<string> {
  const names = new Set<string>()
  const env = new Proxy(set, {
    get: (target, name) => {
      names.add(String(name))
      return target[String(name)]
    },
  })
  loadConfig(env)
  return names
}

test('every setting that is read is described, and every setting of inference that is described is read', () => {
  const names = read({ SLIPWAY_TLS_CERT: import.meta.filename, SLIPWAY_TLS_KEY: import.meta.filename })
  const known = described()
  expect([...names].filter((name) => !known.has(name))).toEqual([])
  expect([...known].filter((name) => name.startsWith('SLIPWAY_INFERENCE_') && !names.has(name))).toEqual([])
})

test('settings that are wrong are told all at once, by their names', () => {
  const wrong = {
    SLIPWAY_INFERENCE_THREADS: 'x',
    SLIPWAY_INFERENCE_IDLE: '5',
    SLIPWAY_INFERENCE_EXPLAIN_MAX_ROWS: '-1',
  }
  const problems = (() => {
    try {
      loadConfig(wrong)
      return []
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      return error.problems.map(({ name }) => name)
    }
  })()
  expect(problems.toSorted()).toEqual(Object.keys(wrong).toSorted())
})

test('listening beyond loopback needs TLS, or a mesh', () => {
  const beyond = { SLIPWAY_LISTEN: '0.0.0.0:1', SLIPWAY_INFERENCE_HTTP_LISTEN: '[::1]:2' }
  expect(() => loadConfig(beyond)).toThrow(/SLIPWAY_LISTEN: 0\.0\.0\.0 is beyond loopback: it needs SLIPWAY_TLS_CERT/)
  expect(() => loadConfig(beyond)).not.toThrow(/HTTP_LISTEN/)
  const http = { SLIPWAY_INFERENCE_HTTP_LISTEN: '0.0.0.0:2' }
  expect(() => loadConfig(http)).toThrow(/SLIPWAY_INFERENCE_HTTP_LISTEN: 0\.0\.0\.0 is beyond/)
  expect(() => loadConfig({ ...beyond, SLIPWAY_INSECURE_BEHIND_MESH: 'true' })).not.toThrow()
  expect(() =>
    loadConfig({ ...beyond, SLIPWAY_TLS_CERT: import.meta.filename, SLIPWAY_TLS_KEY: import.meta.filename }),
  ).not.toThrow()
})
