import { expect, test } from 'vitest'
import { openProgress } from './progress.ts'

function collect(options: { isTTY: boolean; columns?: number }) {
  const written: string[] = []
  return { written, stream: { ...options, write: (text: string) => written.push(text) > 0 } }
}

test('without a terminal there is a line a quarter and one at the end', () => {
  const { written, stream } = collect({ isTTY: false })
  const stage = openProgress(stream).stage('training')
  for (let i = 0; i <= 100; i++) stage.update(i / 100, `${i}`)
  stage.end('done')
  expect(written).toHaveLength(4)
  expect(written.at(-1)).toMatch(/training +100 % done\n$/)
  expect(written.join('')).not.toContain('\r')
})

test('in a terminal a line is never longer than the screen', () => {
  const { written, stream } = collect({ isTTY: true, columns: 40 })
  openProgress(stream).stage('training').update(0.5, 'x'.repeat(200))
  expect(written.join('').replace('\r\x1b[K', '').length).toBeLessThan(40)
})

test('a line stands above the bar, which is drawn again', () => {
  const { written, stream } = collect({ isTTY: true, columns: 80 })
  const progress = openProgress(stream)
  progress.stage('training').update(0.5)
  written.length = 0
  progress.line('news')
  expect(written).toHaveLength(1)
  expect(written[0]).toMatch(/news\ntraining .* 50 % $/)
})

test('of two stages at once the later one is shown, then the earlier one again', () => {
  const { written, stream } = collect({ isTTY: true, columns: 80 })
  const progress = openProgress(stream)
  const replay = progress.stage('replay')
  const training = progress.stage('training')
  replay.update(0.25)
  training.update(0.5)
  replay.update(0.3)
  expect(written.at(-1)).toContain('training')
  training.end('done')
  expect(written.at(-1)).toMatch(/training .* done\nreplay .* 30 % $/)
})

test('a closed bar does not come back', () => {
  const { written, stream } = collect({ isTTY: true, columns: 80 })
  const progress = openProgress(stream)
  const stage = progress.stage('replay')
  stage.update(0.5)
  progress.close()
  stage.update(0.6)
  progress.line('stopping')
  expect(written.slice(-2)).toEqual(['\r\x1b[K', '\r\x1b[Kstopping\n'])
})
