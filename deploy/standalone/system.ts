/** The five services as the rest of the standalone deployment sees them. */

/** Names of the services, in the order in which they are started. */
export const serviceNames = ['registry', 'feature-store', 'inference', 'traffic-router', 'drift-monitor'] as const

/** One of the five services. */
export type ServiceName = (typeof serviceNames)[number]

/** `host:port` of each service. */
export type Addresses = Readonly<Record<ServiceName, string>>

/** The services, running. */
export interface System {
  readonly addresses: Addresses
  /** Drains and stops all of them. */
  stop(): Promise<void>
}

/** What the services are started with. */
export interface SystemOptions {
  readonly dataDir: string
  readonly portBase: number
  readonly kafka: string | undefined
  /** Variables of this process that the services see as well, `OTEL_*` among them. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Told what a person should know, a line each. */
  readonly notice: (line: string) => void
}

const portOffsets: Readonly<Record<ServiceName, number>> = {
  'traffic-router': 0,
  registry: 1,
  'feature-store': 2,
  inference: 3,
  'drift-monitor': 4,
}

/** Inference answers over HTTP, too. */
const HTTP_OFFSET = 5

/** The addresses that follow from the port base. */
export function addressesFrom(portBase: number): Addresses {
  const address = (name: ServiceName) => `127.0.0.1:${portBase + portOffsets[name]}`
  return {
    registry: address('registry'),
    'feature-store': address('feature-store'),
    inference: address('inference'),
    'traffic-router': address('traffic-router'),
    'drift-monitor': address('drift-monitor'),
  }
}

/** Where inference answers over HTTP. */
export function httpAddressFrom(portBase: number): string {
  return `127.0.0.1:${portBase + HTTP_OFFSET}`
}

/** The environment of one service: where it listens, where the others are, where its data lies. */
export function environmentOf(service: ServiceName, options: SystemOptions): Record<string, string | undefined> {
  const addresses = addressesFrom(options.portBase)
  const targets = Object.entries(addresses).map(([name, address]) => [
    `SLIPWAY_${name.toUpperCase().replaceAll('-', '_')}_ADDRESS`,
    address,
  ])
  return {
    // Enough for the example; what needs more works on disk.
    SLIPWAY_FEATURE_STORE_MEMORY: '384MiB',
    SLIPWAY_INFERENCE_HTTP_LISTEN: httpAddressFrom(options.portBase),
    ...options.environment,
    ...Object.fromEntries(targets),
    SLIPWAY_LISTEN: addresses[service],
    SLIPWAY_DATA_DIR: options.dataDir,
    SLIPWAY_KAFKA_BROKERS: options.kafka,
  }
}
