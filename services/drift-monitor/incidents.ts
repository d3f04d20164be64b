/**
 * From verdicts to incidents: a pure function of what is open and what a look found.
 *
 * 1. One cause, one incident. Columns that begin to drift within a window's length of an incident's first alarm belong
 *    to it; what begins later is another cause.
 * 2. Outputs follow from features: they join any open incident, and open one only when no feature moved.
 * 3. An incident ends by itself when for a whole window's length none of its columns drifted, or when its version no
 *    longer answers. Flapping does not end it.
 * 4. The same look may be taken again (an amended window): nothing is opened or counted twice.
 */
import { clone, create } from '@bufbuild/protobuf'
import {
  type Distribution,
  type Incident,
  IncidentSchema,
  IncidentState,
  type Verdict,
  VerdictState,
} from '@slipway/proto/slipway/drift/v1/monitor'
import { ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { timestampFromMicros } from '@slipway/resources'
import { hash64 } from '@slipway/stats'
import { HOUR_MICROS, hourOf, microsOfTimestamp, timestampOfHour } from './time.ts'

/** An incident that is not resolved, and since when it has been calm. */
export interface OpenIncident {
  readonly incident: Incident
  /** End of the first window, in hours, from which on none of its columns has drifted; undefined while one does. */
  readonly calmSinceHour: number | undefined
}

/** What a look found about one version. */
export interface Findings {
  readonly monitor: string
  readonly endpoint: string
  readonly modelVersion: string
  readonly digest: string
  readonly endHour: number
  readonly windowHours: number
  readonly verdicts: readonly Verdict[]
  readonly distributionOf: (name: string) => Distribution
  /** The version has answered lately, or nobody has. */
  readonly answering: boolean
  readonly falseIncidentsPerMonth: number
  /** The clock, microseconds since the epoch. */
  readonly nowMicros: bigint
}

/** What becomes of one incident. */
export interface IncidentStep extends OpenIncident {
  /** The state before; unspecified for a new one. */
  readonly previousState: IncidentState
  /** Only the bookkeeping changed; nobody needs to hear of it. */
  readonly silent: boolean
}

/** Takes a look's findings to the incidents of its version. Gives only those that change. */
export function nextIncidents(open: readonly OpenIncident[], findings: Findings): IncidentStep[] {
  if (!findings.answering)
    return open.map((each) => ended(each, findings, `${findings.modelVersion} no longer answers`))
  const drifting = findings.verdicts.filter(({ state }) => state === VerdictState.DRIFT)
  const claimed = new Set(open.flatMap(({ incident }) => incident.evidence.map(({ name }) => name)))
  const unclaimed = drifting.filter(({ name }) => !claimed.has(name))
  const host = hostFor(open, unclaimed, findings)
  const steps = open.flatMap((each): IncidentStep[] => {
    const joins = each === host ? unclaimed : []
    return joins.length > 0 ? [extended(each, joins, findings)] : calmed(each, findings)
  })
  return host !== undefined || unclaimed.length === 0 ? steps : [...steps, opened(unclaimed, findings)]
}

/** The open incident that newly drifting columns belong to. */
function hostFor(open: readonly OpenIncident[], unclaimed: readonly Verdict[], findings: Findings) {
  if (unclaimed.length === 0) return undefined
  const newest = open.toSorted((a, b) => detectedHour(b) - detectedHour(a))[0]
  if (newest === undefined) return undefined
  const onlyOutputs = unclaimed.every(({ kind }) => kind === ReferenceKind.OUTPUT)
  return onlyOutputs || findings.endHour - detectedHour(newest) <= findings.windowHours ? newest : undefined
}

function opened(drifting: readonly Verdict[], findings: Findings): IncidentStep {
  const id = `${stamp(findings.endHour)}-${hash64(`${findings.monitor} ${findings.digest} ${findings.endHour}`).toString(16).padStart(16, '0').slice(0, 8)}`
  const now = timestampFromMicros(findings.nowMicros)
  const incident = create(IncidentSchema, {
    name: `${findings.monitor}/incidents/${id}`,
    endpoint: findings.endpoint,
    modelVersion: findings.modelVersion,
    digest: findings.digest,
    state: IncidentState.OPEN,
    detectedTime: timestampOfHour(findings.endHour),
    createTime: now,
    updateTime: now,
    falseIncidentsPerMonth: findings.falseIncidentsPerMonth,
  })
  return {
    incident: withEvidence(incident, drifting, findings),
    calmSinceHour: undefined,
    previousState: IncidentState.UNSPECIFIED,
    silent: false,
  }
}

function extended(open: OpenIncident, joining: readonly Verdict[], findings: Findings): IncidentStep {
  const incident = clone(IncidentSchema, open.incident)
  incident.updateTime = timestampFromMicros(findings.nowMicros)
  return {
    incident: withEvidence(incident, joining, findings),
    calmSinceHour: undefined,
    previousState: open.incident.state,
    silent: false,
  }
}

function calmed(open: OpenIncident, findings: Findings): IncidentStep[] {
  const own = new Set(open.incident.evidence.map(({ name }) => name))
  const judged = findings.verdicts.filter(
    ({ name, state }) => own.has(name) && state !== VerdictState.INSUFFICIENT_DATA,
  )
  const { state: previousState } = open.incident
  if (judged.some(({ state }) => state === VerdictState.DRIFT)) {
    return open.calmSinceHour === undefined ? [] : [{ ...open, calmSinceHour: undefined, previousState, silent: true }]
  }
  if (judged.length < own.size) return []
  const calmSinceHour = open.calmSinceHour ?? findings.endHour
  if (findings.endHour - calmSinceHour >= findings.windowHours) {
    return [ended(open, findings, `no drift for ${findings.windowHours} h`)]
  }
  return open.calmSinceHour === undefined ? [{ ...open, calmSinceHour, previousState, silent: true }] : []
}

function ended(open: OpenIncident, findings: Findings, note: string): IncidentStep {
  return {
    incident: resolved(open.incident, note, findings.nowMicros),
    calmSinceHour: open.calmSinceHour,
    previousState: open.incident.state,
    silent: false,
  }
}

/** The incident, over. */
export function resolved(incident: Incident, note: string, nowMicros: bigint): Incident {
  const now = timestampFromMicros(nowMicros)
  return { ...clone(IncidentSchema, incident), state: IncidentState.RESOLVED, note, updateTime: now, resolveTime: now }
}

function withEvidence(incident: Incident, joining: readonly Verdict[], findings: Findings): Incident {
  const distributions = new Map(incident.distributions.map((each) => [each.name, each]))
  for (const { name } of joining) distributions.set(name, findings.distributionOf(name))
  incident.evidence = [...incident.evidence, ...joining].sort(
    (a, b) => a.kind - b.kind || b.alarmRatio - a.alarmRatio || (a.name < b.name ? -1 : 1),
  )
  incident.distributions = incident.evidence.flatMap(({ name }) => distributions.get(name) ?? [])
  const features = incident.evidence.filter(({ kind }) => kind === ReferenceKind.FEATURE)
  incident.features = (features.length > 0 ? features : incident.evidence).map(({ name }) => name)
  return incident
}

function detectedHour(open: OpenIncident): number {
  return hourOf(microsOfTimestamp(open.incident.detectedTime))
}

/** The hour as part of a name, `20010402T15`. */
function stamp(hour: number): string {
  const text = new Date(Number((BigInt(hour) * HOUR_MICROS) / 1000n)).toISOString()
  return text.slice(0, 13).replaceAll('-', '')
}
