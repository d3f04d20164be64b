import { type Environment, readSettings } from '@slipway/config'
import { readServiceSettings, type ServiceSettings } from '@slipway/service'

/** Settings of the drift monitor. */
export interface DriftMonitorConfig extends ServiceSettings {
  /** The registry, `host:port`. */
  readonly registryAddress: string
  /** Name of its group on the bus: monitors with the same name share the work. */
  readonly group: string
  /** How long counts, predictions and labels are kept, by event time, in hours. */
  readonly retentionHours: number
}

/** Reads the settings; throws one error that names every problem. */
export function loadConfig(env: Environment): DriftMonitorConfig {
  return readSettings(env, (read) => ({
    ...readServiceSettings(read, { name: 'drift-monitor', defaultPort: 7404 }),
    registryAddress: read.text('SLIPWAY_REGISTRY_ADDRESS', { doc: 'the registry', default: '127.0.0.1:7401' }),
    group: read.text('SLIPWAY_DRIFT_MONITOR_GROUP', { doc: 'consumer group', default: 'slipway-drift-monitor' }),
    retentionHours: Math.ceil(
      read.durationMs('SLIPWAY_DRIFT_MONITOR_RETENTION', {
        doc: 'how long counts and labels are kept',
        default: '45d',
      }) / 3_600_000,
    ),
  }))
}
