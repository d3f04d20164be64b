import { EventEmitter } from 'node:events'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { listenForInterruption } from './interruption.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

function open() {
  const host = Object.assign(new EventEmitter(), { exit: vi.fn<(code: number) => void>() })
  return { host, interruption: listenForInterruption(host, 15_000) }
}

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s asks once and gives exit code %i', (signal, code) => {
  const { host, interruption } = open()
  expect(interruption.signal.aborted).toBe(false)
  host.emit(signal, signal)
  expect(interruption.signal.aborted).toBe(true)
  expect(interruption.exitCode()).toBe(code)
  expect(host.exit).not.toHaveBeenCalled()
})

test('what npm and the terminal pass on of one Ctrl-C is one; a later one ends at once', () => {
  const { host } = open()
  host.emit('SIGINT', 'SIGINT')
  vi.advanceTimersByTime(900)
  host.emit('SIGINT', 'SIGINT')
  expect(host.exit).not.toHaveBeenCalled()
  vi.advanceTimersByTime(200)
  host.emit('SIGTERM', 'SIGTERM')
  expect(host.exit).toHaveBeenCalledWith(130)
})

test('a run that does not end in time is ended', () => {
  const { host } = open()
  host.emit('SIGTERM', 'SIGTERM')
  vi.advanceTimersByTime(14_999)
  expect(host.exit).not.toHaveBeenCalled()
  vi.advanceTimersByTime(1)
  expect(host.exit).toHaveBeenCalledWith(143)
})
