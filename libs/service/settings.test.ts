import { ConfigError, type Environment, readSettings } from '@slipway/config'
import { expect, test } from 'vitest'
import { readServiceSettings, type ServiceSettings } from './index.ts'

const load = (env: Environment): ServiceSettings =>
  readSettings(env, (read) => readServiceSettings(read, { name: 'drift-monitor', defaultPort: 7404 }))

test('without settings a service listens on loopback, in plain text, and keeps its own folder below .slipway', () => {
  expect(load({})).toEqual({
    listen: { host: '127.0.0.1', port: 7404 },
    dataDirectory: '.slipway/drift-monitor',
    eventsPath: '.slipway/events.db',
    kafkaBrokers: [],
    tls: undefined,
    insecureBehindMesh: false,
    drainGraceMs: 10_000,
  })
})

test('every setting can be set; the grace is named after the service', () => {
  const env = {
    SLIPWAY_LISTEN: '0.0.0.0:1',
    SLIPWAY_DATA_DIR: '/data/',
    SLIPWAY_KAFKA_BROKERS: 'a:9092, b:9092',
    SLIPWAY_INSECURE_BEHIND_MESH: 'yes',
    SLIPWAY_DRIFT_MONITOR_DRAIN_GRACE: '1m',
  }
  expect(load(env)).toEqual({
    listen: { host: '0.0.0.0', port: 1 },
    dataDirectory: '/data/drift-monitor',
    eventsPath: '/data/events.db',
    kafkaBrokers: ['a:9092', 'b:9092'],
    tls: undefined,
    insecureBehindMesh: true,
    drainGraceMs: 60_000,
  })
})

test('TLS is on with a certificate, needs its key, and takes authorities', () => {
  const file = import.meta.filename
  expect(load({ SLIPWAY_TLS_KEY: file }).tls).toBeUndefined()
  const files = { SLIPWAY_TLS_CERT: file, SLIPWAY_TLS_KEY: file }
  expect(load(files).tls).toEqual({ certificate: file, key: file })
  expect(load({ ...files, SLIPWAY_TLS_CA: file }).tls).toMatchObject({ authorities: file })
  expect(() => load({ SLIPWAY_TLS_CERT: file })).toThrow('SLIPWAY_TLS_KEY')
  expect(() => load({ ...files, SLIPWAY_TLS_CA: 'gone.pem' })).toThrow(/SLIPWAY_TLS_CA: must be a file .*gone\.pem/)
})

test('every wrong setting is named in one error', () => {
  const env = {
    SLIPWAY_LISTEN: 'here',
    SLIPWAY_KAFKA_BROKERS: 'broker',
    SLIPWAY_TLS_CERT: 'gone.pem',
    SLIPWAY_INSECURE_BEHIND_MESH: 'perhaps',
    SLIPWAY_DRIFT_MONITOR_DRAIN_GRACE: 'long',
  }
  const names = [
    'SLIPWAY_LISTEN',
    'SLIPWAY_KAFKA_BROKERS',
    'SLIPWAY_TLS_CERT',
    'SLIPWAY_TLS_KEY',
    'SLIPWAY_INSECURE_BEHIND_MESH',
    'SLIPWAY_DRIFT_MONITOR_DRAIN_GRACE',
  ]
  expect(() => load(env)).toThrow(ConfigError)
  for (const name of names) expect(() => load(env)).toThrow(name)
})
