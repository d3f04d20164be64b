import { create } from '@bufbuild/protobuf'
import {
  DistributionSchema,
  IncidentState,
  type Verdict,
  VerdictSchema,
  VerdictState,
} from '@slipway/proto/slipway/drift/v1/monitor'
import { ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { describe, expect, test } from 'vitest'
import { type Findings, nextIncidents, type OpenIncident } from './incidents.ts'

function verdict(
  name: string,
  state: VerdictState,
  alarmRatio = 2,
  kind: ReferenceKind = ReferenceKind.FEATURE,
): Verdict {
  return create(VerdictSchema, { name, kind, state, alarmRatio })
}

const drift = (name: string, alarmRatio?: number) => verdict(name, VerdictState.DRIFT, alarmRatio)
const output = verdict('score', VerdictState.DRIFT, 9, ReferenceKind.OUTPUT)
const calm = (name: string) => verdict(name, VerdictState.NO_MATERIAL_DRIFT, 0.1)
const unsure = (name: string) => verdict(name, VerdictState.INSUFFICIENT_DATA, 0)

/** Takes a sequence of looks, three hours apart, and gives the incidents and how many events they caused. */
function after(...looks: { verdicts: readonly Verdict[]; answering?: boolean }[]) {
  const incidents = new Map<string, OpenIncident>()
  let events = 0
  for (const [index, { verdicts, answering = true }] of looks.entries()) {
    const open = [...incidents.values()].filter(({ incident }) => incident.state !== IncidentState.RESOLVED)
    const findings: Findings = {
      monitor: 'monitors/m',
      endpoint: 'endpoints/e',
      modelVersion: 'models/m/versions/1',
      digest: 'sha256:1',
      endHour: 240_000 + index * 3,
      windowHours: 24,
      verdicts,
      distributionOf: (name) => create(DistributionSchema, { name }),
      answering,
      falseIncidentsPerMonth: 0.1,
      nowMicros: BigInt(index),
    }
    for (const step of nextIncidents(open, findings)) {
      incidents.set(step.incident.name, step)
      events += step.silent ? 0 : 1
    }
  }
  const found = [...incidents.values()].map(({ incident }) => incident)
  return { events, features: found.map(({ features }) => features), states: found.map(({ state }) => state), found }
}

const look = (...verdicts: Verdict[]) => ({ verdicts })
const times = (count: number, ...verdicts: Verdict[]) => Array.from({ length: count }, () => look(...verdicts))

describe('incidents', () => {
  test('clean looks open nothing', () => {
    expect(after(...times(20, calm('a'), unsure('b'))).found).toEqual([])
  })

  test('a feature that drifts on and on is one incident and one event', () => {
    expect(after(...times(30, drift('a'), calm('b')))).toMatchObject({ events: 1, features: [['a']] })
  })

  test('what drifts within a window is the same cause, ranked by how far beyond its threshold; later is another cause', () => {
    const looks = [look(drift('a')), look(drift('a'), drift('b', 5)), ...times(8, drift('a'), drift('b'))]
    expect(after(...looks)).toMatchObject({ events: 2, features: [['b', 'a']] })
    expect(after(...looks, look(drift('a'), drift('b'), drift('c')))).toMatchObject({ features: [['b', 'a'], ['c']] })
  })

  test('an output follows from a feature, whichever is seen first, and is named only when no feature moved', () => {
    expect(after(look(output), look(output, drift('a')))).toMatchObject({ events: 2, features: [['a']] })
    expect(after(look(drift('a')), ...times(12, drift('a')), look(drift('a'), output))).toMatchObject({
      features: [['a']],
    })
    expect(after(look(output, calm('a')))).toMatchObject({ features: [['score']] })
  })

  test('flapping is one incident; a whole calm window ends it; then the next alarm is a new one', () => {
    const flapping = Array.from({ length: 10 }, () => [look(drift('a')), look(calm('a'))]).flat()
    expect(after(...flapping)).toMatchObject({ events: 1, states: [IncidentState.OPEN] })
    const over = [look(drift('a')), ...times(9, calm('a'))]
    expect(after(...over)).toMatchObject({ events: 2, states: [IncidentState.RESOLVED] })
    expect(after(...over).found[0]?.note).toContain('24 h')
    expect(after(...over, look(drift('a')))).toMatchObject({ states: [IncidentState.RESOLVED, IncidentState.OPEN] })
  })

  test('windows that cannot be judged neither end an incident nor keep it from ending', () => {
    expect(after(look(drift('a')), ...times(20, unsure('a')))).toMatchObject({ states: [IncidentState.OPEN] })
  })

  test('the incidents of a version that no longer answers are over', () => {
    const { found } = after(look(drift('a')), { verdicts: [drift('a')], answering: false })
    expect(found).toMatchObject([{ state: IncidentState.RESOLVED, note: 'models/m/versions/1 no longer answers' }])
  })

  test('an incident carries its evidence: verdicts and distributions in one order, names that last', () => {
    const [incident] = after(look(output, drift('a', 3), drift('b', 7))).found
    expect(incident?.evidence.map(({ name }) => name)).toEqual(['b', 'a', 'score'])
    expect(incident?.distributions.map(({ name }) => name)).toEqual(['b', 'a', 'score'])
    expect(incident?.name).toBe(after(look(drift('a'))).found[0]?.name)
    expect(incident?.name).toMatch(/^monitors\/m\/incidents\/19970519T00-[0-9a-f]{8}$/)
  })
})
