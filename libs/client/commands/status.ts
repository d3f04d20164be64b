/** `slipway status`: who answers, what is served, what is wrong. */
import { IncidentState } from '@slipway/proto/slipway/drift/v1/monitor'
import { Failure } from '@slipway/rpc'
import { defaultAddresses, type Health, type ServiceName } from '../connect.ts'
import { allPages, type Command, type Invocation, show } from '../invocation.ts'
import { shortName } from '../resource-name.ts'
import { styled, table } from '../terminal.ts'

/** Commands about the system as a whole. */
export const statusCommands: readonly Command[] = [
  { name: 'status', summary: 'who answers, what is served, which incidents are open', run: showStatus },
]

interface Row {
  readonly service: ServiceName
  readonly address: string
  readonly health: Health
}

async function showStatus(invocation: Invocation): Promise<void> {
  const { slipway, terminal } = invocation
  const names = Object.keys(defaultAddresses) as ServiceName[]
  const services: Row[] = await Promise.all(
    names.map(async (service) => ({
      service,
      address: slipway.addresses[service],
      health: await slipway.health(service),
    })),
  )
  const answers = (service: ServiceName) => services.some((row) => row.service === service && row.health === 'serving')
  const endpoints = answers('trafficRouter') ? await unlessAway(() => listEndpoints(invocation)) : []
  const incidents = answers('driftMonitor') ? await unlessAway(() => listOpenIncidents(invocation)) : []
  show(invocation, { services: services.map((row) => ({ ...row })), endpoints, openIncidents: incidents }, () =>
    [
      table(
        ['service', 'address', 'health'],
        services.map(({ service, address, health }) => [service, address, health]),
      ),
      ...(endpoints.length > 0
        ? ['\n', table(['endpoint', 'variant', 'weight', 'version'], endpointRows(endpoints))]
        : []),
      ...incidents.map((name) => `\n${styled(terminal, 'red', 'open incident')} ${name}\n`),
    ].join(''),
  )
  if (services.some(({ health }) => health !== 'serving')) throw new Error('not every service is serving')
}

/** Status is asked when something is wrong: what cannot be read is left out, the table above says who is away. */
async function unlessAway<T>(list: () => Promise<T[]>): Promise<T[]> {
  try {
    return await list()
  } catch (error) {
    if (error instanceof Failure) return []
    throw error
  }
}

interface EndpointStatus {
  readonly name: string
  readonly variants: { name: string; weightPercent: number; modelVersion: string }[]
}

async function listEndpoints({ slipway }: Invocation) {
  const endpoints = await allPages(
    (pageToken) => slipway.routing.listEndpoints({ pageToken }),
    (page) => page.endpoints,
  )
  return endpoints.map(({ name, variants }) => ({
    name,
    variants: variants.map(({ name, weightBasisPoints, modelVersion }) => ({
      name,
      weightPercent: weightBasisPoints / 100,
      modelVersion,
    })),
  }))
}

async function listOpenIncidents({ slipway }: Invocation): Promise<string[]> {
  const { incidents } = await slipway.drift.listIncidents({ parent: 'monitors/-' })
  return incidents.filter(({ state }) => state !== IncidentState.RESOLVED).map(({ name }) => name)
}

function endpointRows(endpoints: readonly EndpointStatus[]): string[][] {
  return endpoints.flatMap(({ name, variants }) =>
    variants.map((variant) => [
      shortName(name),
      variant.name,
      `${variant.weightPercent} %`,
      shortName(variant.modelVersion),
    ]),
  )
}
