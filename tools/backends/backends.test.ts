import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { Missing, startBackends } from './index.ts'
import { findProgram } from './process.ts'

const { SLIPWAY_TEST_KAFKA, SLIPWAY_TEST_POSTGRES, SLIPWAY_TEST_REDIS, REQUIRE_BACKENDS } = process.env

test.skipIf(SLIPWAY_TEST_REDIS === undefined)('Redis answers a PING', async () => {
  expect(await ask(SLIPWAY_TEST_REDIS, Buffer.from('PING\r\n'), 7)).toEqual(Buffer.from('+PONG\r\n'))
})

test.skipIf(SLIPWAY_TEST_POSTGRES === undefined)('PostgreSQL lets its user in', async () => {
  const parameters = Buffer.from('user\0slipway\0database\0postgres\0\0')
  const startup = Buffer.alloc(8)
  startup.writeInt32BE(8 + parameters.length, 0)
  startup.writeInt32BE(3 << 16, 4)
  // AuthenticationOk: type R, length 8, code 0.
  const answer = await ask(SLIPWAY_TEST_POSTGRES, Buffer.concat([startup, parameters]), 9)
  expect(answer).toEqual(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0]))
})

test.skipIf(SLIPWAY_TEST_KAFKA === undefined)('Kafka says which requests it takes', async () => {
  // Size, ApiVersions (18), version 0, correlation id 7, no client id.
  const request = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])
  const answer = await ask(`kafka://${SLIPWAY_TEST_KAFKA?.split(',')[0]}`, request, 10)
  // After the size: the correlation id and no error.
  expect(answer.subarray(4)).toEqual(Buffer.from([0, 0, 0, 7, 0, 0]))
})

test.runIf(REQUIRE_BACKENDS === '1')('all backends are there, as REQUIRE_BACKENDS=1 asks', () => {
  expect([SLIPWAY_TEST_KAFKA, SLIPWAY_TEST_POSTGRES, SLIPWAY_TEST_REDIS]).not.toContain(undefined)
})

test('a program that is not installed is missing, which is said by its name', () => {
  expect(() => findProgram('no-such-program')).toThrow(Missing)
  expect(() => findProgram('no-such-program')).toThrow('no-such-program is not installed')
})

test('what was not asked for is not started', async () => {
  const lines: string[] = []
  const backends = await startBackends({ only: [], say: (line) => lines.push(line) })
  expect(backends.env).toEqual({})
  expect(lines).toEqual([])
  await backends.stop()
})

test('a missing backend is left out and said, or an error when it is required', async () => {
  const path = process.env.PATH
  process.env.PATH = ''
  try {
    const lines: string[] = []
    const backends = await startBackends({ only: ['redis'], say: (line) => lines.push(line) })
    expect(backends.missing).toEqual([{ name: 'redis', reason: 'redis-server is not installed' }])
    expect(lines).toEqual([expect.stringContaining('redis: left out, redis-server is not installed')])
    await expect(startBackends({ only: ['redis'], require: true })).rejects.toThrow(Missing)
  } finally {
    process.env.PATH = path
  }
})

/** Sends bytes to the server of a URL and returns the first bytes of its answer. */
function ask(url: string | undefined, question: Buffer, answerBytes: number): Promise<Buffer> {
  const { hostname, port } = new URL(url ?? '')
  return new Promise((resolve, reject) => {
    let answer = Buffer.alloc(0)
    const socket = connect({ host: hostname, port: Number(port) }, () => socket.write(question))
    socket.on('error', reject)
    socket.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk])
      if (answer.length < answerBytes) return
      socket.destroy()
      resolve(answer.subarray(0, answerBytes))
    })
  })
}
