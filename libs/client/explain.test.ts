import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AttributionMethod,
  Baseline,
  type ExplainRequest,
  ExplainService,
} from '@slipway/proto/slipway/inference/v1/explain_service'
import { createServer, implement } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runWords } from './cli.fixture.ts'

const asked: ExplainRequest[] = []
let method: AttributionMethod = AttributionMethod.EXACT
const server = createServer({
  listen: { host: '127.0.0.1', port: 0 },
  implementations: [
    implement(ExplainService, {
      explain: async (request) => {
        asked.push(request)
        return {
          modelVersion: 'models/flights/versions/3',
          digest: 'sha256:abc',
          output: 'probability',
          features: ['origin', 'distance'],
          baseline: Baseline.ROWS,
          backgroundRows: 64,
          baseValue: 0.25,
          explanations: [
            {
              prediction: 0.5,
              attributions: [-0.125, 0.375],
              standardErrors: method === AttributionMethod.EXACT ? [0, 0] : [0.001, 0.002],
              additivityResidual: 1.5e-9,
              evaluations: 1026n,
              method,
            },
          ],
        }
      },
    }),
  ],
})
let address = ''

beforeAll(async () => {
  address = (await server.start()).address
})
afterAll(() => server.drain({ graceMs: 100 }))

const directory = mkdtempSync(join(tmpdir(), 'slipway-explain-'))
afterAll(() => rmSync(directory, { recursive: true }))
const file = (name: string, content: object): string => {
  const path = join(directory, name)
  writeFileSync(path, JSON.stringify(content))
  return path
}

const slipway = (...words: string[]) => runWords(words, { env: { SLIPWAY_INFERENCE_ADDRESS: address } })

test('explain draws the largest attributions first and shows that they add up', async () => {
  const { code, out } = await slipway('explain', 'flights', '--row', 'distance=733,origin=ATL')
  expect(code).toBe(0)
  expect(out).toMatchInlineSnapshot(`
    "version  flights/3  sha256:abc
    output   probability
    against  64 rows of the training set

    FEATURE   VALUE  ATTRIBUTION                            ERROR
    distance  733         +0.375  ████████████████████████  exact
    origin    ATL         -0.125  ████████                  exact
    adds up  0.25 + 0.25 = 0.5, 1.5e-9 left over
    asked    1 026 rows
    "
  `)
  expect(asked.at(-1)).toMatchObject({
    model: 'flights',
    version: '',
    rows: {
      case: 'features',
      value: {
        rows: [
          {
            values: {
              distance: { kind: { case: 'int64Value', value: 733n } },
              origin: { kind: { case: 'stringValue', value: 'ATL' } },
            },
          },
        ],
      },
    },
  })
})

test('sampled attributions have their standard errors', async () => {
  method = AttributionMethod.SAMPLED
  const { out } = await slipway('explain', 'flights/3', '--feature', 'origin=Paris, Texas', '--seed', '7')
  method = AttributionMethod.EXACT
  expect(out).toContain('± 0.002')
  expect(asked.at(-1)).toMatchObject({ version: '3', options: { seed: 7n } })
})

test('groups, budget and rows reach the service, and --json shows its answer', async () => {
  const words = ['--group', 'place=origin,destination', '--max-evaluations', '5000', '--target-error', '0.01']
  const { out } = await slipway(
    'explain',
    'flights',
    '--version',
    '2',
    '--row',
    'a=1',
    '--row',
    'a=2',
    ...words,
    '--json',
  )
  expect(JSON.parse(out)).toMatchObject({ features: ['origin', 'distance'], explanations: [{ evaluations: '1026' }] })
  expect(asked.at(-1)).toMatchObject({
    version: '2',
    options: {
      groups: [{ name: 'place', features: ['origin', 'destination'] }],
      maxEvaluations: 5000n,
      targetStandardError: 0.01,
    },
  })
})

test('rows and background can be tensors in files, as over HTTP', async () => {
  const tensors = file('rows.json', {
    inputs: [
      { name: 'distance', datatype: 'FP32', shape: [2], data: [733, 12.5] },
      { name: 'x', datatype: 'INT64', shape: [2, 2], data: [1, 2, 3, 4] },
    ],
  })
  const compared = file('background.json', {
    inputs: [{ name: 'distance', datatype: 'FP32', shape: [1], data: [100] }],
  })
  const { code, out } = await slipway('explain', 'flights', '--tensors', tensors, '--background', compared)
  expect(code).toBe(0)
  expect(out).toMatch(/^distance +733 +\+0\.375/m)
  const { rows, background } = asked.at(-1) ?? {}
  expect(rows).toMatchObject({
    case: 'tensors',
    value: {
      inputs: [
        { name: 'distance', datatype: 'FP32', shape: [2n] },
        { name: 'x', shape: [2n, 2n] },
      ],
    },
  })
  const [distances] = rows?.case === 'tensors' ? rows.value.rawInputContents : []
  expect(Buffer.from(distances ?? []).readFloatLE(4)).toBe(12.5)
  expect(background).toMatchObject({ inputs: [{ name: 'distance', shape: [1n] }] })
})

test.each([
  [['explain', 'flights'], 'needs --row'],
  [['explain', 'flights', '--tensors', 'rows.json', '--row', 'a=1'], 'are all rows'],
  [['explain', 'flights', '--tensors', 'none.json'], 'none.json cannot be read'],
  [['explain', 'flights', '--row', 'a=1', '--background', 'none.json'], 'none.json cannot be read'],
  [['explain', 'flights@champion', '--row', 'a=1'], 'must be a model'],
  [['explain', 'flights/3', '--version', '2', '--row', 'a=1'], 'names a version already'],
  [['explain', 'flights', '--version', 'two', '--row', 'a=1'], 'must be a number'],
  [['explain', 'flights', '--row', 'a=1', '--group', 'x'], 'must be NAME=FEATURE'],
  [['explain', 'flights', '--row', 'a=1', '--seed', '-x'], 'whole number'],
  [['explain', 'flights', '--row', 'a=1', '--row', 'a=2', '--feature', 'b=1'], 'belongs to one row'],
])('%j is refused', async (words, problem) => {
  const { code, err } = await slipway(...words)
  expect(code).toBe(2)
  expect(err).toContain(problem)
})
