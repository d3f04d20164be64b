import { expect, test } from 'vitest'
import { parseOptions, UsageError } from './options.ts'

test('without arguments the defaults hold', () => {
  expect(parseOptions([])).toEqual({
    once: false,
    processes: false,
    kafka: undefined,
    dataDir: '.slipway',
    portBase: 7400,
    json: false,
    fault: true,
    seed: 1,
    firstDay: '2001-01-22',
  })
})

test('every wrong value is named in one message', () => {
  const parse = () => parseOptions(['--kafka', 'broker', '--port-base', '80', '--seed', 'x', '--first-day', 'today'])
  expect(parse).toThrow(UsageError)
  for (const part of ['--kafka takes HOST:PORT', '--port-base takes', '--seed takes', '--first-day takes']) {
    expect(parse).toThrow(part)
  }
})

test('an unknown flag is refused by name', () => {
  expect(() => parseOptions(['--onse'])).toThrow('--onse')
  expect(() => parseOptions(['stray'])).toThrow('stray')
})

test.each(['broker', 'broker:', ':9092', 'broker:0', 'broker:65536', 'a b:9092'])(
  "'%s' is no broker's address",
  (address) => {
    expect(() => parseOptions(['--kafka', address])).toThrow('--kafka takes HOST:PORT')
  },
)
