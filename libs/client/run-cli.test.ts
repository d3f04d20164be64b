import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { openEmbeddedBus, publishTo, topics } from '@slipway/events'
import { DriftService, ReportSchema } from '@slipway/proto/slipway/drift/v1/drift_service'
import { IncidentState, VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import { FeatureStatus } from '@slipway/proto/slipway/features/v1/value'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { PredictionService, type PredictRequest } from '@slipway/proto/slipway/routing/v1/prediction_service'
import { Code, createServer, Failure, implement } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runWords } from './cli.fixture.ts'

const asked: PredictRequest[] = []
const report = create(ReportSchema, {
  monitor: { name: 'monitors/flight-delay', endpoint: 'endpoints/flight-delay' },
  predictions: 20_480n,
  labelsReceived: 19_000n,
  labelsJoined: 18_990n,
  versions: [
    {
      modelVersion: 'models/flights/versions/1',
      digest: `sha256:${'a'.repeat(64)}`,
      predictions: 20_480n,
      performance: { coverage: 0.97, logLoss: 0.412 },
      features: [
        {
          verdict: {
            name: 'origin',
            state: VerdictState.NO_MATERIAL_DRIFT,
            effect: 0.01,
            sampleSize: 1204n,
            referenceSize: 50_000n,
          },
          cells: { case: 'categorical', value: { values: ['ATL', 'ORD'] } },
          referenceCounts: [30_000n, 20_000n, 0n, 0n],
          currentCounts: [722n, 482n, 0n, 0n],
        },
        {
          verdict: {
            name: 'distance',
            state: VerdictState.DRIFT,
            effect: 0.75,
            alarmRatio: 40,

            effectLow: 0.71,
            effectHigh: 0.79,
            pValue: 1e-40,
            pThreshold: 2.1e-5,
            reason: 'the tail is not calibrated',
            sampleSize: 1204n,
            referenceSize: 50_000n,
          },
          cells: { case: 'numeric', value: { edges: [0, 500, 1000] } },
          referenceCounts: [25_000n, 25_000n, 0n, 0n, 0n, 0n],
          currentCounts: [301n, 0n, 0n, 903n, 0n, 0n],
        },
      ],
    },
  ],
})

const server = createServer({
  listen: { host: '127.0.0.1', port: 0 },
  implementations: [
    implement(RegistryService, {
      listModels: async ({ pageToken }) =>
        pageToken === ''
          ? {
              models: [{ name: 'models/flights', latestVersion: 2n, description: 'late or not' }],
              nextPageToken: 'next',
            }
          : { models: [{ name: 'models/taxis', latestVersion: 0n }] },
      getModel: async ({ name }, call) => ({ name, description: `asked by ${call.header('x-slipway-actor')}` }),
      createModel: async () => {
        throw new Failure(Code.INVALID_ARGUMENT, 'INVALID_FIELD', 'the request is not valid', {
          violations: [{ field: 'model.description', description: 'must be shorter' }],
        })
      },
    }),
    implement(PredictionService, {
      predict: async (request) => {
        asked.push(request)
        return {
          predictions: [
            {
              predictionId: 'prediction-1',
              variant: 'champion',
              modelVersion: 'models/flights/versions/2',
              outputs: { late: 0.25 },
              missingFeatures: { traffic: FeatureStatus.NOT_FOUND },
            },
          ],
        }
      },
    }),
    implement(DriftService, {
      getReport: async () => report,
      listIncidents: async () => ({
        incidents: [{ name: 'monitors/flight-delay/incidents/i1', state: IncidentState.OPEN, features: ['distance'] }],
      }),
    }),
  ],
})

let address: string
beforeAll(async () => {
  address = (await server.start()).address
})
afterAll(() => server.drain({ graceMs: 100 }))

const services = ['REGISTRY', 'FEATURE_STORE', 'INFERENCE', 'TRAFFIC_ROUTER', 'DRIFT_MONITOR']

function slipway(line: string, signal?: AbortSignal) {
  const addresses = Object.fromEntries(services.map((service) => [`SLIPWAY_${service}_ADDRESS`, address]))
  return runWords(line.split(' '), { env: { SLIPWAY_ACTOR: 'ada', ...addresses }, ...(signal && { signal }) })
}

test('a list shows all pages as a table', async () => {
  expect(await slipway('models list')).toEqual({
    code: 0,
    out: 'MODEL    VERSIONS  CREATED  DESCRIPTION\nflights         2           late or not\ntaxis           0\n',
    err: '',
  })
})

test('--json writes one JSON value and nothing else', async () => {
  const { out } = await slipway('models list --json')
  expect(JSON.parse(out)).toEqual([
    { name: 'models/flights', latestVersion: '2', description: 'late or not' },
    { name: 'models/taxis' },
  ])
})

test("the server's field-level errors are listed, and the exit code is that of wrong words", async () => {
  const { code, out, err } = await slipway('models create flights')
  expect([code, out]).toEqual([2, ''])
  expect(err).toContain(
    'the request is not valid (INVALID_ARGUMENT, INVALID_FIELD)\n  model.description: must be shorter\n',
  )
})

test('a wrong word ends with 2 and says what is right', async () => {
  const { code, err } = await slipway('modles list')
  expect(code).toBe(2)
  expect(err).toContain('Did you mean "slipway models"?')
})

test('a service that is away ends with 1 and says how to see which', async () => {
  const { code, err } = await slipway('models list --registry-address 127.0.0.1:1')
  expect(code).toBe(1)
  expect(err).toContain('slipway status')
})

test('predict sends keys and features by their types and shows what was missing', async () => {
  const { code, out } = await slipway('predict flight-delay --key origin=ATL --feature distance=733 --routing-key me')
  expect(code).toBe(0)
  expect(asked[0]).toMatchObject({
    endpoint: 'endpoints/flight-delay',
    routingKey: 'me',
    instances: [
      {
        entityKeys: { origin: { kind: { case: 'stringValue', value: 'ATL' } } },
        features: { distance: { kind: { case: 'int64Value', value: 733n } } },
      },
    ],
  })
  expect(out).toContain('late             0.25\n')
  expect(out).toContain('answered by      champion, flights/2\n')
  expect(out).toContain('missing traffic  not found\n')
})

test('feedback needs exactly one outcome', async () => {
  expect(await slipway('feedback flight-delay prediction-1')).toMatchObject({ code: 2 })
  expect(await slipway('feedback flight-delay prediction-1 --label 1 --reward 2')).toMatchObject({ code: 2 })
})

test('the report draws drifting features in full, loudest first, and the others in a line', async () => {
  const { code, out } = await slipway('report flight-delay')
  expect(code).toBe(0)
  expect(out).toMatchInlineSnapshot(`
    "monitor   flight-delay
    endpoint  flight-delay
    counted   20 480 predictions up to now
    labels    18 990 of 19 000 joined

    flights/1  sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    20 480 predictions, 97.0 % labelled: logLoss 0.412

    distance  DRIFT  effect 0.75 (0.71 to 0.79), p 1.0e-40 against 2.1e-5  1 204 rows against 50 000
      the tail is not calibrated
                   reference                               window
      [0, 500)      50.0 % ████████████████████             25.0 % ██████████
      [500, 1000]   50.0 % ████████████████████              0.0 %
      above 1000     0.0 %                                  75.0 % ██████████████████████████████

    origin  no material drift  effect 0.01 (0 to 0), p 0 against 0  1 204 rows against 50 000
      reference  █▆
      window     █▆

    incident open: distance, detected 
      slipway incidents get flight-delay/incidents/i1
    "
  `)
})

test('status ends with 1 when a service does not answer', async () => {
  const { code, out } = await slipway('status --inference-address 127.0.0.1:1')
  expect(code).toBe(1)
  expect(out).toMatch(/inference +127\.0\.0\.1:1 +unreachable/)
  expect(out).toMatch(/registry +127\.0\.0\.1:\d+ +serving/)
})

test('an address on the command line must be one', async () => {
  expect(await slipway('models list --port-base 70000')).toMatchObject({ code: 2 })
  expect(await slipway('models list --registry-address nowhere')).toMatchObject({ code: 2 })
})

test('events shows what is on the bus of a data folder, and decodes it', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-events-'))
  const bus = openEmbeddedBus({ path: join(directory, 'events.db') })
  const labels = [1, 0, 1].map((label, index) => ({
    predictionId: `prediction-${index}`,
    endpoint: 'endpoints/flight-delay',
    outcome: { case: 'label' as const, value: label },
  }))
  await publishTo(bus, topics.feedback, labels)
  await bus.publish([{ topic: topics.feedback.name, key: 'k', value: Buffer.from([255]), headers: {} }])
  await bus.close()
  const { code, out } = await slipway(`events feedback --json --data-dir ${directory}`)
  expect(code).toBe(0)
  const messages = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).message)
  expect(
    messages
      .filter(({ label }) => label !== undefined)
      .map(({ predictionId }) => predictionId)
      .sort(),
  ).toEqual(['prediction-0', 'prediction-1', 'prediction-2'])
  expect(messages.filter(({ undecodable }) => undecodable === '/w==')).toHaveLength(1)
  expect(
    (await slipway(`events feedback --count 2 --follow --data-dir ${directory}`)).out.trim().split('\n'),
  ).toHaveLength(2)
  expect(await slipway('events feedbacks')).toMatchObject({
    code: 2,
    err: expect.stringContaining('training-requests'),
  })
  expect(await slipway(`events feedback --data-dir ${directory}/none`)).toMatchObject({ code: 2 })
})

test('TLS files must exist and come in pairs', async () => {
  expect(await slipway('models list --tls-cert a.pem')).toMatchObject({
    code: 2,
    err: expect.stringContaining('go together'),
  })
  expect(await slipway('models list --tls-ca nowhere.pem')).toMatchObject({
    code: 2,
    err: expect.stringContaining('nowhere.pem'),
  })
})

test('a server that speaks plain text is not spoken to in TLS', async () => {
  expect(await slipway('models list --tls')).toMatchObject({ code: 1, out: '' })
})

test('the registry hears who asks', async () => {
  expect((await slipway('models get flights')).out).toContain('asked by ada')
})
