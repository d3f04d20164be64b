/** One of Slipway's services in a process of a benchmark: `service.ts <name>`; says its address when it answers. */
import { EventLoopWatch } from '@slipway/telemetry'
import { answerParent } from '../processes.ts'

interface Startable {
  start(env: Readonly<Record<string, string | undefined>>): Promise<{ readonly address: string }>
}

const services: Readonly<Record<string, () => Promise<Startable>>> = {
  registry: () => import('@slipway/registry/main'),
  inference: () => import('@slipway/inference/main'),
  'feature-store': () => import('@slipway/feature-store/main'),
  'traffic-router': () => import('@slipway/traffic-router/main'),
}

const load = services[process.argv[2] ?? '']
if (load === undefined) throw new Error(`no service is called ${process.argv[2]}`)
const { start } = await load()
const { address } = await start(process.env)
const watch = new EventLoopWatch()
answerParent(async (message) => (message === 'event-loop' ? watch.take() : undefined))
process.send?.(address)
