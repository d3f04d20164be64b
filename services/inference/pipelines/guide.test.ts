/** The example of docs/pipelines.md is right, and answers what the page says. */
import { readFileSync } from 'node:fs'
import { mlpModel } from '@slipway/onnx'
import { expect, test } from 'vitest'
import { predict } from '../local-predictions.ts'
import { floats, pipelineFiles, readFloats, readTexts, startTestPipeline, texts } from './pipeline.fixture.ts'

const page = readFileSync(new URL('../../../docs/pipelines.md', import.meta.url), 'utf8')

test('the example of the guide answers what the guide says', async () => {
  const [, pipeline = ''] = /```json\n(\{\n {2}"description"[\s\S]*?)\n```/.exec(page) ?? []
  const [, weights = ''] = /weights: (\[.*?\])/.exec(page) ?? []
  const [, bias = ''] = /bias: (\[.*?\])/.exec(page) ?? []
  const layer = { inputs: 3, outputs: 1, weights: JSON.parse(weights), bias: JSON.parse(bias) }
  const files = pipelineFiles(JSON.parse(pipeline), { 'steps/score.onnx': mlpModel({ layers: [layer] }) })
  const version = await startTestPipeline(files)
  const hours = { name: 'hour', datatype: 'INT64', shape: [2], bytes: Buffer.from(BigInt64Array.of(6n, 20n).buffer) }
  const [label, late] = await predict(version, {
    inputs: [floats('distance', [300, 1200]), hours, texts('carrier', ['WN', 'UA'])],
  })
  await version.close()
  if (label === undefined || late === undefined) throw new Error('no answer')
  expect(page).toContain(`\`label\` is \`${JSON.stringify(readTexts(label))}\``)
  const rounded = readFloats(late).map((value) => Number(value.toFixed(2)))
  expect(page).toContain(`\`late\` is \`${JSON.stringify(rounded)}\``)
})
