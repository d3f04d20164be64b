import { ConfigError } from '@slipway/config'
import { expect, test } from 'vitest'
import { loadConfig } from './config.ts'

test('without settings the registry listens on loopback and keeps everything below .slipway', () => {
  expect(loadConfig({})).toMatchObject({
    listen: { host: '127.0.0.1', port: 7401 },
    dataDirectory: '.slipway/registry',
    kafkaBrokers: [],
    tls: undefined,
    inferenceAddress: '127.0.0.1:7403',
    maxGraphBytes: 1024 ** 3,
  })
})

test('every wrong setting is named in one error', () => {
  const env = {
    SLIPWAY_LISTEN: 'here',
    SLIPWAY_REGISTRY_GATE_RUNS: '0',
    SLIPWAY_REGISTRY_MAX_FILE: 'big',
    SLIPWAY_TLS_CERT: 'a',
  }
  const load = () => loadConfig(env)
  expect(load).toThrow(ConfigError)
  for (const name of ['SLIPWAY_LISTEN', 'SLIPWAY_REGISTRY_GATE_RUNS', 'SLIPWAY_REGISTRY_MAX_FILE', 'SLIPWAY_TLS_KEY']) {
    expect(load).toThrow(name)
  }
})
