import { describe, expect, test } from 'vitest'
import type { Environment, SettingsReader } from './index.ts'
import { ConfigError, readSettings } from './index.ts'

const doc = 'what it decides'

function problemsOf(env: Environment, describeSettings: (read: SettingsReader) => unknown): string[] {
  try {
    readSettings(env, describeSettings)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ name, problem }) => `${name} ${problem}`)
    throw error
  }
  return []
}

describe('readSettings', () => {
  test('returns what the description builds', () => {
    const settings = readSettings(
      {
        ...{ SLIPWAY_NAME: 'flights', SLIPWAY_LISTEN: '[::1]:7401', SLIPWAY_WAIT: '1.5s' },
        ...{ SLIPWAY_KAFKA_BROKERS: 'a:9092,[::1]:9092,', SLIPWAY_TLS_KEY: import.meta.filename },
      },
      (read) => ({
        name: read.text('SLIPWAY_NAME', { doc }),
        listen: read.address('SLIPWAY_LISTEN', { doc, default: '127.0.0.1:7400' }),
        waitMs: read.durationMs('SLIPWAY_WAIT', { doc, default: '5s' }),
        limitBytes: read.bytes('SLIPWAY_LIMIT', { doc, default: '64MiB' }),
        brokers: read.addressList('SLIPWAY_KAFKA_BROKERS', { doc }),
        certificate: read.optionalFile('SLIPWAY_TLS_CERT', { doc }),
        key: read.file('SLIPWAY_TLS_KEY', { doc }),
        mode: read.choice('SLIPWAY_MODE', { doc, values: ['fast', 'safe'], default: 'safe' }),
      }),
    )
    expect(settings).toEqual({
      name: 'flights',
      listen: { host: '::1', port: 7401 },
      waitMs: 1500,
      limitBytes: 67_108_864,
      brokers: ['a:9092', '[::1]:9092'],
      certificate: undefined,
      key: import.meta.filename,
      mode: 'safe',
    })
  })

  test('reports every problem at once, a line for each variable', () => {
    const describeAll = (read: SettingsReader) => [
      read.text('A', { doc }),
      read.integer('B', { doc, min: 1, max: 10 }),
      read.choice('C', { doc, values: ['x', 'y'] }),
      read.address('D', { doc, default: '127.0.0.1:7400' }),
      read.durationMs('E', { doc, default: '5s', min: '1s', max: '1m' }),
      read.bytes('F', { doc, default: '1KiB', max: '1MiB' }),
      read.boolean('G', { doc }),
      read.list('H', { doc, pattern: /^\S+:\d+$/ }),
      read.optionalText('I', { doc, pattern: /^[a-z]+$/ }),
      read.addressList('J', { doc }),
      read.file('K', { doc }),
      read.optionalFile('L', { doc }),
    ]
    const env = {
      ...{ B: '11', C: 'z', D: 'nowhere', E: '2m', F: '2MiB', G: 'maybe', H: 'one:1, two', I: '9', J: 'a:1, b' },
      ...{ K: 'no such file', L: import.meta.dirname },
    }
    expect(problemsOf(env, describeAll)).toEqual([
      'A is required',
      'B must be at most 10, got "11"',
      'C must be one of x, y, got "z"',
      'D must be host:port with a port up to 65535, got "nowhere"',
      'E must be at most 1m, got "2m"',
      'F must be at most 1MiB, got "2MiB"',
      'G must be true or false, got "maybe"',
      'H must match /^\\S+:\\d+$/, got "one:1, two"',
      'I must match /^[a-z]+$/, got "9"',
      'J must be host:port with a port up to 65535, got "a:1, b"',
      `K must be a file that can be read (ENOENT: no such file or directory, open 'no such file'), got "no such file"`,
      `L must be a file, got ${JSON.stringify(import.meta.dirname)}`,
    ])
    expect(() => readSettings(env, describeAll)).toThrow(
      /need attention:\n {2}A: is required \(what it decides\)\n {2}B: /,
    )
  })

  test('an empty variable counts as not set', () => {
    expect(
      readSettings({ A: '', B: ' ' }, (read) => [
        read.text('A', { doc, default: 'x' }),
        read.optionalText('B', { doc }),
      ]),
    ).toEqual(['x', undefined])
    expect(problemsOf({ A: ' ' }, (read) => read.integer('A', { doc }))).toEqual(['A is required'])
  })

  test('a default that does not parse is a bug of the caller, not a setting', () => {
    expect(() => readSettings({}, (read) => read.durationMs('A', { doc, default: '5 parsecs' }))).toThrow(TypeError)
  })
})

describe('values', () => {
  const integer = (text: string) => readSettings({ A: text }, (read) => read.integer('A', { doc }))
  const duration = (text: string) => readSettings({ A: text }, (read) => read.durationMs('A', { doc }))
  const bytes = (text: string) => readSettings({ A: text }, (read) => read.bytes('A', { doc }))
  const address = (text: string) => readSettings({ A: text }, (read) => read.address('A', { doc }))

  test.each([
    ['250ms', 250],
    ['5s', 5000],
    ['2m', 120_000],
    ['1.5h', 5_400_000],
    ['7d', 604_800_000],
  ])('%s lasts %d ms', (text, expected) => expect(duration(text)).toBe(expected))

  test.each([
    ['4096', 4096],
    ['64KiB', 65_536],
    ['10MB', 10_000_000],
    ['2 GiB', 2_147_483_648],
  ])('%s is %d bytes', (text, expected) => expect(bytes(text)).toBe(expected))

  test.each(['5', '-5s', 's', '5x', '1e3s'])('%s is no duration', (text) =>
    expect(() => duration(text)).toThrow(ConfigError),
  )
  test.each(['1.5', '0x10', '1e3', '9007199254740993'])('%s is no integer', (text) =>
    expect(() => integer(text)).toThrow(ConfigError),
  )
  test.each(['localhost', 'localhost:65536', '::1:7400', 'a b:1', ':80'])('%s is no address', (text) =>
    expect(() => address(text)).toThrow(ConfigError),
  )

  test('a port of 0 is an address', () => expect(address('localhost:0')).toEqual({ host: 'localhost', port: 0 }))
})
