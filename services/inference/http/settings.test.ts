import { type Environment, readSettings } from '@slipway/config'
import { expect, test } from 'vitest'
import { readHttpSettings } from './settings.ts'

const load = (env: Environment, host = '127.0.0.1', port = 7403) =>
  readSettings(env, (read) => readHttpSettings(read, { host, port }))

test('without a word HTTP is listened for beside gRPC, two ports above', () => {
  expect(load({}).httpListen).toEqual({ host: '127.0.0.1', port: 7405 })
  expect(load({}, '::1', 9000).httpListen).toEqual({ host: '::1', port: 9002 })
  expect(load({}, 'a.example', 0).httpListen).toEqual({ host: 'a.example', port: 0 })
  expect(load({}, '127.0.0.1', 65_534).httpListen).toBeUndefined()
})

test('it may be elsewhere, or off', () => {
  expect(load({ SLIPWAY_INFERENCE_HTTP_LISTEN: '0.0.0.0:80' }).httpListen).toEqual({ host: '0.0.0.0', port: 80 })
  expect(load({ SLIPWAY_INFERENCE_HTTP_LISTEN: 'Off' }).httpListen).toBeUndefined()
  expect(() => load({ SLIPWAY_INFERENCE_HTTP_LISTEN: 'here' })).toThrow('SLIPWAY_INFERENCE_HTTP_LISTEN')
  expect(() => load({ SLIPWAY_INFERENCE_HTTP_REQUEST_TIMEOUT: '1ms' })).toThrow('at least 1s')
})
