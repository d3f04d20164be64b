import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openBus } from './index.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-service-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

test('without brokers the bus is the file that all services share', async () => {
  const eventsPath = join(directory, 'events.db')
  await using opened = new AsyncDisposableStack()
  const bus = opened.adopt(openBus({ kafkaBrokers: [], eventsPath }, 'test'), (bus) => bus.close())
  await bus.publish([{ topic: 'a', key: 'k', value: new Uint8Array(), headers: {} }])
  expect(existsSync(eventsPath)).toBe(true)
})

test('with brokers the bus is Kafka, and no file appears', async () => {
  const eventsPath = join(directory, 'events.db')
  // Nothing listens on port 1: opening waits for no broker.
  const bus = openBus({ kafkaBrokers: ['127.0.0.1:1'], eventsPath }, 'test')
  await bus.close()
  expect(existsSync(eventsPath)).toBe(false)
})
