import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type EventBus, openEmbeddedBus, publishTo, topics } from '@slipway/events'
import { DriftService } from '@slipway/proto/slipway/drift/v1/drift_service'
import { IncidentState, VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import type { IncidentChanged, TrainingRequested } from '@slipway/proto/slipway/events/v1/change'
import { Code, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type FakeRegistry, fakeRegistry } from './fake-registry.fixture.ts'
import { start } from './main.ts'
import { liveStartMicros, logged, type SyntheticRow, syntheticRows, syntheticVersion } from './synthetic.fixture.ts'

const digest = `sha256:${'a'.repeat(64)}`
const endpoint = 'endpoints/flight-delay'
const name = 'monitors/flight-delay'
const DAY = 86_400_000_000n
const version = syntheticVersion(digest)
const nextDigest = `sha256:${'d'.repeat(64)}`
const nextVersion = { ...syntheticVersion(nextDigest), name: 'models/flights/versions/2' }

let directory: string
let registry: FakeRegistry
let bus: EventBus
let running: RunningService
let drift: ReturnType<typeof clientOf>

const clientOf = (address: string) => createClient(DriftService, { address })

async function startMonitor(): Promise<void> {
  running = await start({
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_DATA_DIR: directory,
    SLIPWAY_REGISTRY_ADDRESS: registry.address,
  })
  drift = clientOf(running.address)
}

async function stopMonitor(): Promise<void> {
  drift.close()
  await running.stop()
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-drift-'))
  registry = await fakeRegistry([version, nextVersion])
  bus = openEmbeddedBus({ path: join(directory, 'events.db') })
  await startMonitor()
})

afterEach(async () => {
  await stopMonitor()
  await bus.close()
  await registry.stop()
  await rm(directory, { recursive: true, force: true })
})

const idOf = (index: number) => `prediction-${index}`

async function publish(rows: readonly SyntheticRow[], firstId = 0): Promise<void> {
  for (let start = 0; start < rows.length; start += 500) {
    const messages = rows
      .slice(start, start + 500)
      .map((row, index) => logged(row, idOf(firstId + start + index), digest, endpoint))
    await publishTo(bus, topics.predictions, messages)
  }
}

async function publishLabels(labels: readonly { id: number; label: number; feedbackId?: string }[]): Promise<void> {
  const eventTime = { seconds: (liveStartMicros + DAY) / 1_000_000n }
  await publishTo(
    bus,
    topics.feedback,
    labels.map(({ id, label, feedbackId = `f${id}` }) => ({
      predictionId: idOf(id),
      endpoint,
      feedbackId,
      eventTime,
      outcome: { case: 'label', value: label },
    })),
  )
}

async function untilCounted(predictions: number, labels = 0) {
  return await expect
    .poll(
      async () => {
        const report = await drift.getReport({ name })
        return [Number(report.predictions), Number(report.labelsReceived)]
      },
      { timeout: 20_000, interval: 20 },
    )
    .toEqual([predictions, labels])
}

const inKilometres = (row: SyntheticRow): SyntheticRow => ({ ...row, distance: (row.distance ?? 0) * 1.609344 })

async function readAll<T>(
  topic: (typeof topics)['incidents'] | (typeof topics)['trainingRequests'],
  wanted: number,
): Promise<T[]> {
  const found: T[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  const subscription = await bus.subscribe({
    topics: [topic.name],
    group: 'test',
    handle: async (batch) => {
      const { fromBinary } = await import('@bufbuild/protobuf')
      for (const record of batch) found.push(fromBinary(topic.schema, record.value) as T)
      if (found.length >= wanted) resolve()
    },
  })
  await promise
  await subscription.stop()
  return found
}

describe('drift monitor', () => {
  test('days like those of the reference open nothing; kilometres open one incident that names distance within the day', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    const clean = syntheticRows('live', liveStartMicros, 4, 800)
    await publish(clean)
    await untilCounted(clean.length)
    expect((await drift.listIncidents({ parent: name })).incidents).toEqual([])
    const before = await drift.getReport({ name })
    expect(before.versions[0]?.features.map(({ verdict }) => verdict?.state)).toEqual(
      new Array(5).fill(VerdictState.NO_MATERIAL_DRIFT),
    )

    const faultMicros = liveStartMicros + 4n * DAY
    const moved = syntheticRows('fault', faultMicros, 2, 800).map(inKilometres)
    await publish(moved, clean.length)
    await untilCounted(clean.length + moved.length)
    const { incidents } = await drift.listIncidents({ parent: 'monitors/-' })
    expect(incidents).toHaveLength(1)
    const [incident] = incidents
    expect(incident).toMatchObject({
      endpoint,
      modelVersion: version.name,
      digest,
      state: IncidentState.OPEN,
      falseIncidentsPerMonth: 0.1,
    })
    expect(incident?.features).toEqual(['distance'])
    const evidence = incident?.evidence[0]
    expect(evidence).toMatchObject({ name: 'distance', state: VerdictState.DRIFT, calibrationWindows: 42 })
    expect(evidence?.effectLow).toBeGreaterThan(0.1)
    expect(evidence?.pValue).toBeLessThan(evidence?.pThreshold ?? 0)
    expect(incident?.distributions[0]?.currentCounts.reduce((a, b) => a + b, 0n)).toBe(evidence?.sampleSize)
    const delay = (incident?.detectedTime?.seconds ?? 0n) - faultMicros / 1_000_000n
    expect(Number(delay)).toBeGreaterThan(0)
    expect(Number(delay)).toBeLessThanOrEqual(86_400)

    const [change] = await readAll<IncidentChanged>(topics.incidents, 1)
    expect(change).toMatchObject({ previousState: IncidentState.UNSPECIFIED, incident: { name: incident?.name } })
    const requests = await readAll<TrainingRequested>(topics.trainingRequests, 1)
    expect(requests).toHaveLength(1)
    expect(requests[0]).toMatchObject({
      trainingRequestId: incident?.trainingRequestId,
      model: 'models/flights',
      modelVersion: version.name,
      incident: incident?.name,
      features: ['distance'],
      datasetDigest: 'sha256:data',
    })
  })

  test('when another version takes over, incidents of the old one end and the new one starts from its own reference', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    const moved = syntheticRows('moved', liveStartMicros, 2, 800).map(inKilometres)
    await publish(moved)
    const after = syntheticRows('after', liveStartMicros + 2n * DAY, 3, 800)
    await publishTo(
      bus,
      topics.predictions,
      after
        .slice(0, 500)
        .map((row, id) => ({ ...logged(row, `n${id}`, nextDigest, endpoint), modelVersion: nextVersion.name })),
    )
    await untilCounted(moved.length + 500)
    for (let start = 500; start < after.length; start += 500) {
      const rows = after.slice(start, start + 500)
      await publishTo(
        bus,
        topics.predictions,
        rows.map((row, id) => ({
          ...logged(row, `n${start + id}`, nextDigest, endpoint),
          modelVersion: nextVersion.name,
        })),
      )
    }
    await untilCounted(moved.length + after.length)
    const { incidents } = await drift.listIncidents({ parent: name })
    expect(incidents).toHaveLength(1)
    expect(incidents[0]).toMatchObject({
      modelVersion: version.name,
      state: IncidentState.RESOLVED,
      note: `${version.name} no longer answers`,
    })
    const report = await drift.getReport({ name, modelVersion: nextVersion.name })
    expect(report.versions.map(({ modelVersion }) => modelVersion)).toEqual([nextVersion.name])
    expect(report.versions[0]?.features.map(({ verdict }) => verdict?.state)).toEqual(
      new Array(5).fill(VerdictState.NO_MATERIAL_DRIFT),
    )
  })

  test('labels join before or after their prediction, once each, and the metrics are those of the joined rows', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    const rows = syntheticRows('labels', liveStartMicros, 1, 400)
    const labels = rows.map((_, id) => ({ id, label: id % 3 === 0 ? 1 : 0 }))
    await publishLabels(labels.slice(0, 100))
    await untilCounted(0, 100)
    await publish(rows)
    await publish(rows)
    await publishLabels([...labels.slice(50, 300), { id: 999, label: 1 }])
    await untilCounted(400, 301)
    const report = await drift.getReport({ name })
    expect(report).toMatchObject({ predictions: 400n, labelsReceived: 301n, labelsJoined: 300n })
    const performance = report.versions[0]?.performance
    const wanted =
      rows.slice(0, 300).reduce((sum, { score }, id) => sum - Math.log(id % 3 === 0 ? score : 1 - score), 0) / 300
    expect(performance?.labelled).toBe(300n)
    expect(performance?.coverage).toBe(0.75)
    expect(performance?.logLoss).toBeCloseTo(wanted, 12)
    expect(performance?.positiveShare).toBeCloseTo(1 / 3, 12)
  })

  test('a later label of the same prediction replaces the earlier one, whichever arrives first', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    await publish(syntheticRows('relabel', liveStartMicros, 1, 2))
    const label = (feedbackId: string, value: number, seconds: bigint) => ({
      predictionId: idOf(0),
      endpoint,
      feedbackId,
      eventTime: { seconds },
      outcome: { case: 'label' as const, value },
    })
    await publishTo(bus, topics.feedback, [label('late', 1, 2000n), label('early', 0, 1000n)])
    await untilCounted(2, 2)
    const report = await drift.getReport({ name })
    expect(report.versions[0]?.performance?.positiveShare).toBe(1)
  })

  test('counting waits for a registry that is away, and loses nothing', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    registry.refuse(Code.UNAVAILABLE)
    const rows = syntheticRows('waiting', liveStartMicros, 1, 50)
    await publish(rows)
    await expect.poll(() => registry.calls(), { timeout: 10_000 }).toBeGreaterThan(0)
    expect((await drift.getReport({ name })).predictions).toBe(0n)
    registry.refuse(undefined)
    await untilCounted(50)
  })

  test('a version that the registry does not know is counted, and the report says why it is not judged', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    const unknown = `sha256:${'b'.repeat(64)}`
    const rows = syntheticRows('unknown', liveStartMicros, 1, 20)
    await publishTo(
      bus,
      topics.predictions,
      rows.map((row, id) => logged(row, idOf(id), unknown, endpoint)),
    )
    await untilCounted(20)
    const { versions } = await drift.getReport({ name })
    expect(versions[0]).toMatchObject({ digest: unknown, predictions: 20n, features: [] })
    expect(versions[0]?.problem).toContain('does not know')
  })

  test('state survives a restart, and redelivery counts nothing twice', async () => {
    await drift.createMonitor({ monitor: { name, endpoint } })
    const rows = syntheticRows('restart', liveStartMicros, 2, 300)
    await publish(rows.slice(0, 400))
    await untilCounted(400)
    await stopMonitor()
    await publish(rows)
    await startMonitor()
    await untilCounted(600)
    const report = await drift.getReport({ name })
    expect(report.versions[0]?.features[0]?.verdict?.sampleSize).toBeGreaterThan(0n)
  })

  test('an incident is acknowledged, resolved, and watched', async () => {
    await drift.createMonitor({ monitor: { name, endpoint, policy: { requestTraining: false } } })
    const seen: [string, IncidentState][] = []
    const watching = new AbortController()
    const watch = (async () => {
      for await (const { incident } of drift.watchIncidents({ parent: name }, { signal: watching.signal })) {
        if (incident !== undefined) seen.push([incident.name, incident.state])
      }
    })().catch(() => {})
    const rows = syntheticRows('watched', liveStartMicros, 2, 600).map(inKilometres)
    await publish(rows)
    await untilCounted(rows.length)
    const [incident] = (await drift.listIncidents({ parent: name })).incidents
    const acknowledged = await drift.acknowledgeIncident({ name: incident?.name ?? '', note: 'upstream looks' })
    expect(acknowledged).toMatchObject({
      state: IncidentState.ACKNOWLEDGED,
      note: 'upstream looks',
      trainingRequestId: '',
    })
    const over = await drift.resolveIncident({ name: incident?.name ?? '', note: 'fixed' })
    expect(over.state).toBe(IncidentState.RESOLVED)
    await expect(drift.acknowledgeIncident({ name: over.name })).rejects.toMatchObject({
      code: Code.FAILED_PRECONDITION,
    })
    expect(await drift.getIncident({ name: over.name })).toMatchObject({ note: 'fixed', state: IncidentState.RESOLVED })
    await expect
      .poll(() => seen.map(([, state]) => state))
      .toEqual([IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED])
    watching.abort()
    await watch
  })

  test('monitors: defaults are shown, one a name and an endpoint, stale etags change nothing, pages go on', async () => {
    const created = await drift.createMonitor({ monitor: { name, endpoint } })
    expect(created.policy).toMatchObject({ falseIncidentsPerMonth: 0.1, minimumEffect: 0.1, minimumRows: 200n })
    expect(created.policy?.window?.seconds).toBe(86_400n)
    const again = { name: 'monitors/other', endpoint }
    await expect(drift.createMonitor({ monitor: again })).rejects.toMatchObject({ code: Code.ALREADY_EXISTS })
    const policy = { minimumEffect: 0.2, ignored: ['load'] }
    const updated = await drift.updateMonitor({
      monitor: { name, endpoint, etag: created.etag, policy },
      updateMask: { paths: ['policy.minimum_effect'] },
    })
    expect(updated.policy).toMatchObject({ minimumEffect: 0.2, ignored: [] })
    await expect(
      drift.updateMonitor({ monitor: { name, endpoint, etag: created.etag, policy } }),
    ).rejects.toMatchObject({ code: Code.ABORTED })
    await expect(
      drift.updateMonitor({ monitor: { name, endpoint, policy: { lookInterval: { seconds: 18_000n } } } }),
    ).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT })
    await drift.createMonitor({ monitor: { name: 'monitors/a', endpoint: 'endpoints/a' } })
    const first = await drift.listMonitors({ pageSize: 1 })
    const second = await drift.listMonitors({ pageSize: 1, pageToken: first.nextPageToken })
    expect([...first.monitors, ...second.monitors].map((monitor) => monitor.name)).toEqual(['monitors/a', name])
    expect(second.nextPageToken).toBe('')
    await drift.deleteMonitor({ name })
    await expect(drift.getReport({ name })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })
})
