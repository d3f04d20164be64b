import { readSettings } from '@slipway/config'
import { expect, test } from 'vitest'
import { chooseExecutor } from './choose.ts'
import type { StartExecutor } from './executor.ts'
import { readExecutorSettings } from './settings.ts'

const refuse =
  (kind: string): StartExecutor =>
  () =>
    Promise.reject(new Error(kind))
const events = { done: () => {}, failed: () => {}, died: () => {} }
const model = { model: 'path', intraOpThreads: 1, events }

test.each([
  ['flights', {}, 'thread'],
  ['flights', { SLIPWAY_INFERENCE_EXECUTOR: 'process' }, 'process'],
  ['flights', { SLIPWAY_INFERENCE_PROCESS_MODELS: 'leaky,flights' }, 'process'],
  ['flights-2', { SLIPWAY_INFERENCE_PROCESS_MODELS: 'leaky,flights' }, 'thread'],
  ['team.a-model', { SLIPWAY_INFERENCE_PROCESS_MODELS: 'team.*' }, 'process'],
  ['teams-model', { SLIPWAY_INFERENCE_PROCESS_MODELS: 'team.*' }, 'thread'],
])('%s with %j runs in a %s', async (name, env, kind) => {
  const settings = readSettings(env, readExecutorSettings)
  const start = chooseExecutor(settings, refuse('thread'), refuse('process'))
  await expect(start({ ...model, name })).rejects.toThrow(kind)
})

test('processes have no bound of memory unless one is set', () => {
  expect(readSettings({}, readExecutorSettings).maxProcessBytes).toBe(Number.POSITIVE_INFINITY)
  const env = { SLIPWAY_INFERENCE_MAX_PROCESS_BYTES: '1MiB' }
  expect(readSettings(env, readExecutorSettings).maxProcessBytes).toBe(1024 * 1024)
})
