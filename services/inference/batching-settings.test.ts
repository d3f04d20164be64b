import { ConfigError, readSettings } from '@slipway/config'
import { expect, test } from 'vitest'
import { limitsFor, readBatchingSettings } from './batching-settings.ts'

test('what is set for one model takes the place of what is set for all, for that model only', () => {
  const env = {
    SLIPWAY_INFERENCE_MAX_BATCH_ROWS: '64',
    SLIPWAY_INFERENCE_BATCH_DELAY: '2ms',
    SLIPWAY_INFERENCE_MODEL_BATCHING: 'fraud:objective-ms=20,fraud:max-rows=16, flights:delay-ms=0.5',
  }
  const settings = readSettings(env, readBatchingSettings)
  expect(limitsFor(settings, 'fraud')).toMatchObject({ maxBatchRows: 16, delayMs: 2, latencyObjectiveMs: 20 })
  expect(limitsFor(settings, 'flights')).toMatchObject({
    maxBatchRows: 64,
    delayMs: 0.5,
    latencyObjectiveMs: undefined,
  })
  expect(limitsFor(settings, 'other')).toMatchObject({ maxBatchRows: 64, delayMs: 2, preferredBatchRows: undefined })
})

test('a setting of a model that cannot be read is named', () => {
  const env = { SLIPWAY_INFERENCE_MODEL_BATCHING: 'fraud:rows=2' }
  expect(() => readSettings(env, readBatchingSettings)).toThrow(ConfigError)
})
