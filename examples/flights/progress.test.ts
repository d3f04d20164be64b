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
