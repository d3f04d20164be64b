/** The services that a benchmark needs, each in a process of its own, with the benchmark's model loaded. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { createClient } from '@slipway/rpc'
import { benchModel } from './model.ts'
import { BenchProcess } from './processes.ts'

/** Name of the benchmark's model. */
export const MODEL = 'bench'

/** One service that runs. */
export interface RunningProcess {
  readonly process: BenchProcess
  readonly address: string
}

/** Services that run, and what ends them. */
export interface BenchSystem {
  readonly registry: RunningProcess
  readonly inference: RunningProcess
  /** Starts a further service beside these. */
  start(name: string, env?: Readonly<Record<string, string>>): Promise<RunningProcess>
  stop(): Promise<void>
}

/** Starts registry and inference and has the model loaded. */
export async function startSystem(): Promise<BenchSystem> {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-bench-'))
  const processes: BenchProcess[] = []
  const start = async (name: string, env: Readonly<Record<string, string>> = {}): Promise<RunningProcess> => {
    const common = { SLIPWAY_DATA_DIR: directory, SLIPWAY_LISTEN: '127.0.0.1:0' }
    const process = new BenchProcess(new URL('./servers/service.ts', import.meta.url), [name], { ...common, ...env })
    processes.push(process)
    return { process, address: await process.next<string>() }
  }
  const stop = async (): Promise<void> => {
    await Promise.all(processes.map((process) => process.stop()))
    await rm(directory, { recursive: true, force: true })
  }
  try {
    const registry = await start('registry')
    const inference = await start('inference', { SLIPWAY_REGISTRY_ADDRESS: registry.address })
    await loadModel(registry.address, inference.address)
    return { registry, inference, start, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function loadModel(registryAddress: string, inferenceAddress: string): Promise<void> {
  const registry = createClient(RegistryService, { address: registryAddress })
  const control = createClient(ModelControlService, { address: inferenceAddress })
  const chunk = benchModel()
  const digest = `sha256:${createHash('sha256').update(chunk).digest('hex')}`
  async function* upload() {
    yield { uploadId: randomUUID(), chunk, digest }
  }
  await registry.createModel({ model: { name: `models/${MODEL}` } })
  await registry.uploadFile(upload())
  const files = [{ path: 'model.onnx', sizeBytes: BigInt(chunk.length), digest }]
  const version = await registry.createVersion({ parent: `models/${MODEL}`, requestId: randomUUID(), files })
  await control.loadVersion({ name: version.name, digest: version.digest })
  registry.close()
  control.close()
}
