/** Where the CLI looks for the services: options first, then the environment, then the ports of `npm start`. */
import { UsageError, type Words } from './command.ts'
import { type Addresses, defaultAddresses, type ServiceName } from './connect.ts'

const options: Readonly<Record<ServiceName, string>> = {
  trafficRouter: 'traffic-router-address',
  registry: 'registry-address',
  featureStore: 'feature-store-address',
  inference: 'inference-address',
  driftMonitor: 'drift-monitor-address',
}

const services = Object.keys(options) as ServiceName[]

/** The options that say where services are. */
export const addressOptions = {
  ...Object.fromEntries(services.map((service) => [options[service], addressOption(service)])),
  'port-base': { value: 'N', doc: 'the first of the five ports, as given to "npm start -- --port-base"' },
} as const

/** The variable that says where a service is, such as `SLIPWAY_REGISTRY_ADDRESS`. */
export function addressVariable(service: ServiceName): string {
  return `SLIPWAY_${options[service].replaceAll('-', '_').toUpperCase()}`
}

/** The addresses that a command line and its environment ask for. */
export function addressesOf(words: Words, env: Readonly<Record<string, string | undefined>>): Addresses {
  const base = portBase(words.optional('port-base'))
  const entries = services.map((service, index) => {
    const given = words.optional(options[service])
    const fallback = base === undefined ? env[addressVariable(service)] : `127.0.0.1:${base + index}`
    const checked = given === undefined ? undefined : checkAddress(`--${options[service]}`, given)
    return [service, checked || fallback || defaultAddresses[service]] as const
  })
  return Object.fromEntries(entries) as Record<ServiceName, string>
}

function addressOption(service: ServiceName) {
  return { value: 'HOST:PORT', doc: `default $${addressVariable(service)} or ${defaultAddresses[service]}` }
}

function portBase(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const base = Number(text)
  if (Number.isInteger(base) && base > 0 && base + services.length <= 65_536) return base
  throw new UsageError(`--port-base ${text}: must be a port number such as 7400`)
}

/** Refuses an address that is none; `name` is the option or the variable that it comes from. */
export function checkAddress(name: string, address: string): string {
  if (/^(\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):\d{1,5}$/.test(address)) return address
  throw new UsageError(`${name} ${address}: must be HOST:PORT such as 127.0.0.1:7401`)
}
