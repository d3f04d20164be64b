/** Open-loop load on a server in a process apart, and what the server counted meanwhile. */
import { ModelControlService, type WorkCounts } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { createClient } from '@slipway/rpc'
import { MODEL_INFER } from './inference-servers.ts'
import type { OpenLoadPlan, OpenLoadResult } from './open-load.ts'
import { BenchProcess } from './processes.ts'

/** What to do to which server. */
export interface OpenMeasurement extends Omit<OpenLoadPlan, 'kind' | 'path' | 'connections'> {
  readonly connections?: number
}

/** Loads a server. */
export async function measureOpen({ connections = 8, ...plan }: OpenMeasurement): Promise<OpenLoadResult> {
  const load = new BenchProcess(new URL('./load-process.ts', import.meta.url))
  try {
    await load.ask<'measure'>({ ...plan, kind: 'open', path: MODEL_INFER, connections } satisfies OpenLoadPlan)
    await load.ask<'measure'>('go')
    return await load.ask<OpenLoadResult>('go')
  } finally {
    await load.stop()
  }
}

/** What a server counted of the requests for its only version. */
export async function countsOf(address: string): Promise<WorkCounts> {
  const control = createClient(ModelControlService, { address })
  try {
    const { versions } = await control.listLoadedVersions({})
    const work = versions[0]?.work
    if (work === undefined) throw new Error('the server says nothing of its work')
    return work
  } finally {
    control.close()
  }
}
