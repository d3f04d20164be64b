/** `slipway monitors …`, `slipway incidents …`, `slipway report`: whether the world has moved. */

import { ReportSchema } from '@slipway/proto/slipway/drift/v1/drift_service'
import {
  type Incident,
  IncidentSchema,
  IncidentState,
  MonitorSchema,
  VerdictState,
} from '@slipway/proto/slipway/drift/v1/monitor'
import { drawDistribution, drawReport } from '../drift-picture.ts'
import { allPages, type Command, type Invocation, show, showList, showMessage, showNext } from '../invocation.ts'
import { momentText, parseMoment } from '../moment.ts'
import { endpointName, incidentName, monitorName, shortName, versionName } from '../resource-name.ts'
import { countText, enumText, fields, numberText, styled, type Terminal, table } from '../terminal.ts'

const monitor = { name: 'monitor', doc: 'the monitor, such as flight-delay' }
const incident = { name: 'incident', doc: 'monitors/{monitor}/incidents/{incident}, or {monitor}/{incident}' }
const note = { value: 'TEXT', doc: 'what was found' }

/** Commands about drift. */
export const driftCommands: readonly Command[] = [
  { name: 'monitors list', summary: 'what is being watched', run: listMonitors },
  { name: 'monitors get', summary: 'one monitor and its policy', arguments: [monitor], run: getMonitor },
  {
    name: 'monitors create',
    summary: 'watch an endpoint',
    arguments: [monitor],
    options: { endpoint: { value: 'NAME', doc: 'the endpoint; default: of the same name' } },
    run: createMonitor,
  },
  {
    name: 'monitors delete',
    summary: 'stop watching and forget what was counted',
    arguments: [monitor],
    run: deleteMonitor,
  },
  {
    name: 'report',
    summary: 'distributions of reference and window side by side, effects, verdicts',
    arguments: [monitor],
    options: {
      version: { value: 'VERSION', doc: 'only this version, such as flights/3' },
      feature: { value: 'NAME', doc: 'draw this feature or output in full', many: true },
      full: { doc: 'draw everything in full' },
      at: { value: 'TIME', doc: 'the window that ends at this event time; default: the newest' },
    },
    run: showReport,
  },
  {
    name: 'incidents list',
    summary: 'incidents, newest first',
    arguments: [{ ...monitor, optional: true }],
    run: listIncidents,
  },
  { name: 'incidents get', summary: 'one incident with its evidence', arguments: [incident], run: getIncident },
  {
    name: 'incidents acknowledge',
    summary: 'say that somebody has looked',
    arguments: [incident],
    options: { note },
    run: acknowledgeIncident,
  },
  {
    name: 'incidents resolve',
    summary: 'say that an incident is over; the next alarm opens a new one',
    arguments: [incident],
    options: { note },
    run: resolveIncident,
  },
  {
    name: 'incidents watch',
    summary: 'the open incidents, and then every change',
    arguments: [{ ...monitor, optional: true }],
    run: watchIncidents,
  },
]

async function listMonitors(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const monitors = await allPages(
    (pageToken) => slipway.drift.listMonitors({ pageToken }),
    (page) => page.monitors,
  )
  showList(invocation, MonitorSchema, monitors, {
    header: ['monitor', 'endpoint', 'window', 'minimum effect', 'false incidents a month', 'created'],
    row: ({ name, endpoint, policy, createTime }) => [
      shortName(name),
      shortName(endpoint),
      hoursText(policy?.window?.seconds),
      numberText(policy?.minimumEffect ?? Number.NaN),
      numberText(policy?.falseIncidentsPerMonth ?? Number.NaN),
      momentText(createTime),
    ],
  })
}

async function getMonitor(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const found = await slipway.drift.getMonitor({ name: monitorName(words.text('monitor')) })
  showMessage(invocation, MonitorSchema, found, ({ name, endpoint, policy, etag, createTime }) =>
    fields([
      ['monitor', shortName(name)],
      ['endpoint', shortName(endpoint)],
      ['window', hoursText(policy?.window?.seconds)],
      ['looks every', hoursText(policy?.lookInterval?.seconds)],
      ['minimum effect', String(policy?.minimumEffect ?? '')],
      ['minimum rows', String(policy?.minimumRows ?? '')],
      ['false incidents', `${policy?.falseIncidentsPerMonth ?? ''} in 30 days`],
      ['not watched', policy?.ignored.join(' ')],
      ['asks for training', policy?.requestTraining === false ? 'no' : 'yes'],
      ['created', momentText(createTime)],
      ['etag', etag],
    ]),
  )
}

async function createMonitor(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = monitorName(words.text('monitor'))
  const endpoint = endpointName(words.optional('endpoint') ?? shortName(name))
  const made = await slipway.drift.createMonitor({ monitor: { name, endpoint } })
  showMessage(invocation, MonitorSchema, made, () => `${shortName(name)} watches ${shortName(endpoint)}\n`)
}

async function deleteMonitor(invocation: Invocation): Promise<void> {
  const name = monitorName(invocation.words.text('monitor'))
  await invocation.slipway.drift.deleteMonitor({ name })
  show(invocation, { deleted: name }, () => `${shortName(name)} is removed\n`)
}

async function showReport(invocation: Invocation): Promise<void> {
  const { slipway, words, terminal } = invocation
  const version = words.optional('version')
  const at = words.optional('at')
  const name = monitorName(words.text('monitor'))
  const report = await slipway.drift.getReport({
    name,
    modelVersion: version === undefined ? '' : versionName(version),
    ...(at === undefined ? {} : { windowEnd: parseMoment('--at', at, new Date()) }),
  })
  const wanted = new Set(words.many('feature'))
  const inFull = (name: string) => words.flag('full') || wanted.has(name)
  const incidents = invocation.json ? [] : (await slipway.drift.listIncidents({ parent: name })).incidents
  showMessage(
    invocation,
    ReportSchema,
    report,
    () => `${drawReport(terminal, report, { inFull })}${newestIncidents(terminal, incidents)}`,
  )
}

/** A window without drift may follow one with it: the report ends with where to look. */
function newestIncidents(terminal: Terminal, incidents: readonly Incident[]): string {
  const lines = incidents.slice(0, 3).map(({ name, state, features, detectedTime }) => {
    const style = state === IncidentState.RESOLVED ? 'dim' : 'red'
    const what = `incident ${enumText(IncidentState, state)}: ${features.join(' ')}, detected ${momentText(detectedTime)}`
    return `${styled(terminal, style, what)}\n  slipway incidents get ${shortName(name)}\n`
  })
  return lines.length === 0 ? '' : `\n${lines.join('')}`
}

async function listIncidents(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const parent = parentOf(invocation)
  const incidents = await allPages(
    (pageToken) => slipway.drift.listIncidents({ parent, pageToken }),
    (page) => page.incidents,
  )
  showList(invocation, IncidentSchema, incidents, {
    header: ['incident', 'state', 'detected', 'version', 'features', 'effect'],
    row: (each) => [
      shortName(each.name),
      enumText(IncidentState, each.state),
      momentText(each.detectedTime),
      shortName(each.modelVersion),
      each.features.join(' '),
      numberText(each.evidence[0]?.effect ?? Number.NaN),
    ],
  })
}

async function getIncident(invocation: Invocation): Promise<void> {
  const name = incidentName(invocation.words.text('incident'))
  const found = await invocation.slipway.drift.getIncident({ name })
  showMessage(invocation, IncidentSchema, found, () => describeIncident(invocation.terminal, found))
}

async function acknowledgeIncident(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const request = { name: incidentName(words.text('incident')), note: words.optional('note') ?? '' }
  const changed = await slipway.drift.acknowledgeIncident(request)
  showMessage(invocation, IncidentSchema, changed, () => describeIncident(invocation.terminal, changed))
}

async function resolveIncident(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const request = { name: incidentName(words.text('incident')), note: words.optional('note') ?? '' }
  const changed = await slipway.drift.resolveIncident(request)
  showMessage(invocation, IncidentSchema, changed, () => describeIncident(invocation.terminal, changed))
}

async function watchIncidents(invocation: Invocation): Promise<void> {
  const { slipway, signal } = invocation
  for await (const { incident: changed } of slipway.drift.watchIncidents(
    { parent: parentOf(invocation) },
    { signal },
  )) {
    if (changed === undefined) continue
    showNext(
      invocation,
      IncidentSchema,
      changed,
      ({ name, state, features }) => `${shortName(name)}  ${enumText(IncidentState, state)}  ${features.join(' ')}`,
    )
  }
}

function parentOf({ words }: Invocation): string {
  const name = words.optional('monitor')
  return name === undefined ? 'monitors/-' : monitorName(name)
}

function describeIncident(terminal: Terminal, found: Incident): string {
  const rows = found.evidence.map((verdict) => [
    verdict.name,
    enumText(VerdictState, verdict.state),
    numberText(verdict.effect),
    `${numberText(verdict.effectLow)} to ${numberText(verdict.effectHigh)}`,
    numberText(verdict.pValue),
    numberText(verdict.pThreshold),
    countText(verdict.sampleSize),
    momentText(verdict.windowEnd),
  ])
  const state = enumText(IncidentState, found.state)
  return [
    fields([
      ['incident', found.name],
      ['state', styled(terminal, found.state === IncidentState.RESOLVED ? 'green' : 'red', state)],
      ['endpoint', shortName(found.endpoint)],
      ['version', `${shortName(found.modelVersion)}  ${found.digest}`],
      ['moved', found.features.join(' ')],
      ['detected', `${momentText(found.detectedTime)} (event time)`],
      ['opened', momentText(found.createTime)],
      ['resolved', momentText(found.resolveTime)],
      ['note', found.note],
      ['training request', found.trainingRequestId],
      ['tuned to', `${numberText(found.falseIncidentsPerMonth)} false incidents in 30 days`],
    ]),
    '\n',
    table(['evidence', 'verdict', 'effect', '95 % interval', 'p', 'p threshold', 'rows', 'window end'], rows),
    ...found.distributions.map(
      (distribution) => `\n${styled(terminal, 'bold', distribution.name)}\n${drawDistribution(terminal, distribution)}`,
    ),
  ].join('')
}

function hoursText(seconds: bigint | undefined): string {
  return seconds === undefined ? '' : `${Number(seconds) / 3600} h`
}
