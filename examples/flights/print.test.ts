import { expect, test } from 'vitest'
import { printSummary } from './print.ts'
import { brokenSteps, type Summary } from './summary.ts'

const version = { name: 'models/flight-delay/versions/1', digest: `sha256:${'a'.repeat(64)}`, gatePassed: true }
const replacement = { name: 'models/flight-delay/versions/2', digest: `sha256:${'b'.repeat(64)}`, gatePassed: true }
const good: Summary = {
  endpoints: {
    trafficRouter: '127.0.0.1:9400',
    registry: '127.0.0.1:9401',
    featureStore: '127.0.0.1:9402',
    inference: '127.0.0.1:9403',
    driftMonitor: '127.0.0.1:9404',
  },
  timings: { firstPredictionSeconds: 20, totalSeconds: 100, peakRssBytes: 9e8 },
  training: {
    rows: 61_250,
    datasetDigest: 'sha256:0',
    auc: 0.75,
    baselineAuc: 0.69,
    logLoss: 0.5,
    baselineLogLoss: 0.55,
  },
  versions: [
    { ...version, aliases: [], gateCompared: false, liveLogLoss: 0.45 },
    { ...replacement, aliases: ['champion'], gateCompared: true, liveLogLoss: null },
  ],
  predictions: {
    offered: 25_000,
    answered: 25_000,
    failed: 0,
    logged: 25_000,
    dropped: 0,
    p50Ms: 9,
    p99Ms: 40,
    perSecond: 360,
  },
  labels: { sent: 25_000, joined: 24_900 },
  drift: {
    cleanDays: 14,
    incidentsOnCleanDays: 0,
    faultAt: '2001-04-02T00:00:00.000Z',
    incidents: [
      {
        id: 'monitors/flight-delay/incidents/1',
        openedAt: '2001-04-02T09:00:00.000Z',
        features: ['distance', 'probability'],
        effect: 0.16,
        sampleSize: 1486,
        delaySeconds: 32_400,
      },
    ],
  },
  rollout: {
    steps: [
      { weightPercent: 5, requests: 600, failed: 0 },
      { weightPercent: 100, requests: 600, failed: 0 },
    ],
    fromDigest: version.digest,
    toDigest: replacement.digest,
  },
}

test('a story that held breaks no step', () => {
  expect(brokenSteps(good, true)).toEqual([])
})

test.each<[string, Partial<Summary>]>([
  ['training set', { training: { ...good.training, rows: 49_999 } }],
  ['training', { training: { ...good.training, auc: 0.69 } }],
  ['gate', { versions: [{ ...version, gatePassed: false, aliases: [], gateCompared: false, liveLogLoss: 1 }] }],
  ['replay', { predictions: { ...good.predictions, failed: 1 } }],
  ['replay', { predictions: { ...good.predictions, answered: 19_999 } }],
  ['log', { predictions: { ...good.predictions, dropped: 126 } }],
  ['labels', { labels: { sent: 1000, joined: 989 } }],
  ['labels', { labels: { sent: 0, joined: 0 } }],
  ['monitor', { drift: { ...good.drift, cleanDays: 13 } }],
  ['monitor', { drift: { ...good.drift, incidentsOnCleanDays: 1 } }],
  ['monitor', { drift: { ...good.drift, incidents: [] } }],
  ['monitor', { drift: { ...good.drift, incidents: good.drift.incidents.map((i) => ({ ...i, features: ['slot'] })) } }],
  [
    'monitor',
    { drift: { ...good.drift, incidents: good.drift.incidents.map((i) => ({ ...i, delaySeconds: 86_401 })) } },
  ],
  ['rollout', { rollout: { ...good.rollout, steps: good.rollout.steps.slice(0, 1) } }],
  ['rollout', { rollout: { ...good.rollout, steps: good.rollout.steps.map((step) => ({ ...step, failed: 1 })) } }],
  ['rollout', { rollout: { ...good.rollout, toDigest: version.digest } }],
])('a story without its %s says so', (step, change) => {
  expect(brokenSteps({ ...good, ...change }, true).join('\n')).toMatch(new RegExp(`^${step}`, 'm'))
})

test('without a fault nothing has to be replaced', () => {
  const calm = {
    drift: { ...good.drift, incidents: [], faultAt: null },
    rollout: { steps: [], fromDigest: '', toDigest: '' },
  }
  expect(brokenSteps({ ...good, ...calm }, false)).toEqual([])
})

test('the commands to paste go to the ports that the run used', () => {
  const printed = printSummary(good)
  expect(printed).toContain('slipway -- report flight-delay --port-base 9400')
  expect(printed).toContain('http://127.0.0.1:9401')
  const usual = printSummary({ ...good, endpoints: { ...good.endpoints, trafficRouter: '127.0.0.1:7400' } })
  expect(usual).not.toContain('--port-base')
})
