/** The five services in this process: one runtime, their own ports, the same contracts as between machines. */
import { start as startDriftMonitor } from '@slipway/drift-monitor/main'
import { start as startFeatureStore } from '@slipway/feature-store/main'
import { start as startInference } from '@slipway/inference/main'
import { start as startRegistry } from '@slipway/registry/main'
import { start as startTrafficRouter } from '@slipway/traffic-router/main'
import {
  addressesFrom,
  environmentOf,
  type ServiceName,
  type System,
  type SystemOptions,
  serviceNames,
} from './system.ts'

interface Running {
  stop(): Promise<void>
}

const start: Readonly<Record<ServiceName, (env: Readonly<Record<string, string | undefined>>) => Promise<Running>>> = {
  registry: startRegistry,
  'feature-store': startFeatureStore,
  inference: startInference,
  'traffic-router': startTrafficRouter,
  'drift-monitor': startDriftMonitor,
}

/** Starts the services one after another; when one cannot start, those that run are stopped again. */
export async function startInProcess(options: SystemOptions): Promise<System> {
  const running: Running[] = []
  const stop = async () => {
    for (const service of running.splice(0).reverse()) await service.stop()
  }
  try {
    for (const name of serviceNames) running.push(await start[name](environmentOf(name, options)))
  } catch (error) {
    await stop()
    throw error
  }
  return { addresses: addressesFrom(options.portBase), stop }
}
