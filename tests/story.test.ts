import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { play } from './play.fixture.ts'

const fiveMinutes = 5 * 60_000
const services = ['inference', 'feature-store', 'registry', 'drift-monitor', 'traffic-router']

test('the story holds from training to replacement, and stdout is one JSON object', {
  timeout: fiveMinutes,
}, async () => {
  const story = await play()
  const { code, summary } = await story.ended
  expect(code, story.said()).toBe(0)
  expect(Object.keys(summary ?? {}).sort()).toEqual(
    ['drift', 'endpoints', 'labels', 'predictions', 'rollout', 'timings', 'training', 'versions'].sort(),
  )
  expect(summary?.drift.incidents[0]?.features).toContain('distance')
  expect(summary?.timings.peakRssBytes).toBeLessThan(2e9)
  expect(summary?.predictions).toMatchObject({ failed: 0, dropped: 0 })
})

test('clean weeks open no incident', { timeout: fiveMinutes }, async () => {
  const story = await play('--no-fault', '--seed', '5', '--first-day', '2001-03-05')
  const { code, summary } = await story.ended
  expect(code, story.said()).toBe(0)
  expect(summary?.drift.incidents).toEqual([])
  expect(summary?.rollout.steps).toEqual([])
})

const kafka = process.env.SLIPWAY_TEST_KAFKA

test.skipIf(!kafka)(
  'five processes on a real broker survive kill -9 of each, one after another, without a failed prediction',
  { timeout: fiveMinutes },
  async () => {
    const story = await play('--processes', '--kafka', kafka ?? '')
    await story.untilSaid(/replay +25 %/)
    for (const service of services) {
      process.kill(await story.pidOf(service), 'SIGKILL')
      await story.untilSaid(new RegExp(`${service} ended \\(SIGKILL\\)`))
      await delay(3_000)
    }
    const { code, summary } = await story.ended
    expect(code, story.said()).toBe(0)
    expect(summary?.predictions.failed).toBe(0)
    expect(summary?.labels.sent).toBe(summary?.predictions.answered)
  },
)

test('Ctrl-C ends the story and stops the services', { timeout: 60_000 }, async () => {
  const story = await play()
  await story.untilSaid(/training set/)
  story.kill('SIGINT')
  const { code, summary } = await story.ended
  expect(code).toBe(130)
  expect(summary).toBeUndefined()
  expect(story.said()).toContain('stopping')
})
