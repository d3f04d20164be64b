/** The five services in the process of a test, over the embedded bus. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type Slipway } from '@slipway/client'
import { startInProcess } from '@slipway/standalone/in-process'
import { freePortBase } from './ports.fixture.ts'

/** What a test has of them. */
export interface SystemUnderTest {
  readonly slipway: Slipway
  readonly dataDir: string
}

/** Starts the services, lets a test do its work with them, and stops them, however it ends. */
export async function withSystem(work: (system: SystemUnderTest) => Promise<void>): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'slipway-system-'))
  const portBase = await freePortBase()
  const system = await startInProcess({ dataDir, portBase, kafka: undefined, environment: {}, notice: () => {} })
  const { addresses } = system
  const slipway = connect({
    addresses: {
      registry: addresses.registry,
      featureStore: addresses['feature-store'],
      inference: addresses.inference,
      trafficRouter: addresses['traffic-router'],
      driftMonitor: addresses['drift-monitor'],
    },
  })
  try {
    await work({ slipway, dataDir })
  } finally {
    slipway.close()
    await system.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}
