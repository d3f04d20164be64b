/** Asks the services what became of the story. */
import { setTimeout as delay } from 'node:timers/promises'
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt'
import type { Slipway } from '@slipway/client'
import type { Report } from '@slipway/proto/slipway/drift/v1/drift_service'
import type { Incident } from '@slipway/proto/slipway/drift/v1/monitor'
import { dayMicros } from './calendar.ts'
import { endpointName, monitorName } from './definitions.ts'
import type { Registered } from './registration.ts'
import type { Replay } from './replay.ts'
import { untilAnswered } from './retry.ts'
import type { IncidentSummary, RolloutStep, Summary, TrainingSummary, VersionSummary } from './summary.ts'

const caughtUpWithinMs = 30_000

/** What is known without asking. */
export interface Known {
  readonly clients: Slipway
  readonly replayFromMicros: bigint
  /** When the unit changed; undefined when it did not. */
  readonly faultMicros: bigint | undefined
  readonly training: TrainingSummary
  readonly registered: readonly Registered[]
  readonly replay: Replay
  readonly steps: readonly RolloutStep[]
  readonly timings: () => Summary['timings']
}

/** Puts the summary together once everything that was answered has been counted by the monitor. */
export async function summarise(known: Known): Promise<Summary> {
  const { clients, replay, registered } = known
  const counts = replay.counts()
  const report = await caughtUpReport(clients, counts.answered, counts.labelsSent)
  const { incidents } = await untilAnswered(() => clients.drift.listIncidents({ parent: monitorName, pageSize: 1000 }))
  const serving = await untilAnswered(() => clients.routing.getEndpoint({ name: endpointName }))
  const oldestFirst = incidents.toReversed().map((incident) => incidentSummary(incident, known.faultMicros))
  const cleanUntil = known.faultMicros ?? replay.nowMicros()
  const logged = Number(report.predictions)
  return {
    endpoints: clients.addresses,
    timings: known.timings(),
    training: known.training,
    versions: await Promise.all(registered.map((version) => versionSummary(clients, version, report))),
    predictions: {
      offered: counts.offered,
      answered: counts.answered,
      failed: counts.failed,
      logged,
      dropped: Math.max(0, counts.answered - logged),
      p50Ms: replay.latency.quantileMs(0.5),
      p99Ms: replay.latency.quantileMs(0.99),
      perSecond: replay.perSecond(),
    },
    labels: { sent: counts.labelsSent, joined: Number(report.labelsJoined) },
    drift: {
      cleanDays: Math.floor(Number(cleanUntil - known.replayFromMicros) / Number(dayMicros)),
      incidentsOnCleanDays: incidents.filter((incident) => micros(incident.detectedTime) <= cleanUntil).length,
      faultAt: known.faultMicros === undefined ? null : isoTime(known.faultMicros),
      incidents: oldestFirst,
    },
    rollout: {
      steps: known.steps,
      fromDigest: registered[0]?.version.digest ?? '',
      toDigest: known.steps.length === 0 ? '' : (serving.variants[0]?.digest ?? ''),
    },
  }
}

/** Waits until the monitor has seen every answered prediction and label; gives what it has when it does not catch up. */
async function caughtUpReport(clients: Slipway, predictions: number, labels: number): Promise<Report> {
  const giveUpMs = performance.now() + caughtUpWithinMs
  for (;;) {
    const report = await untilAnswered(() => clients.drift.getReport({ name: monitorName }))
    const caughtUp = Number(report.predictions) >= predictions && Number(report.labelsJoined) >= labels
    if (caughtUp || performance.now() > giveUpMs) return report
    await delay(200)
  }
}

async function versionSummary(clients: Slipway, registered: Registered, report: Report): Promise<VersionSummary> {
  const version = await untilAnswered(() => clients.registry.getVersion({ name: registered.version.name }))
  const performance = report.versions.find((part) => part.digest === version.digest)?.performance
  return {
    name: version.name,
    digest: version.digest,
    aliases: version.aliases,
    gatePassed: registered.report.passed,
    gateCompared: registered.report.championDigest !== '',
    liveLogLoss: performance?.logLoss ?? null,
  }
}

function incidentSummary(incident: Incident, faultMicros: bigint | undefined): IncidentSummary {
  const detected = micros(incident.detectedTime)
  const worst = incident.evidence[0]
  return {
    id: incident.name,
    openedAt: isoTime(detected),
    features: incident.features,
    effect: worst?.effect ?? 0,
    sampleSize: Number(worst?.sampleSize ?? 0n),
    delaySeconds: faultMicros === undefined ? null : Number(detected - faultMicros) / 1e6,
  }
}

function micros(time: Timestamp | undefined): bigint {
  return time === undefined ? 0n : BigInt(timestampMs(time)) * 1000n
}

function isoTime(timeMicros: bigint): string {
  return new Date(Number(timeMicros / 1000n)).toISOString()
}
