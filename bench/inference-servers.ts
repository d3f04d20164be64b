/** Inference services with different settings, all with the same model loaded, each in a process of its own. */
import { createHash, randomUUID } from 'node:crypto'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, createClient } from '@slipway/rpc'
import { createServices, type RunningProcess } from './system.ts'

/** Path of the unary method. */
export const MODEL_INFER = '/inference.GRPCInferenceService/ModelInfer'

/** Servers by the names that they were started with. */
export interface InferenceServers<Name extends string> {
  readonly servers: Readonly<Record<Name, RunningProcess>>
  stop(): Promise<void>
}

/** Starts a registry, and a server for each environment; all serve `model` under its name. */
export async function startInference<Name extends string>(
  name: string,
  model: Uint8Array,
  environments: Readonly<Record<Name, Readonly<Record<string, string>>>>,
): Promise<InferenceServers<Name>> {
  const services = await createServices()
  try {
    const registry = await services.start('registry')
    const version = await register(registry.address, name, model)
    const servers: Partial<Record<Name, RunningProcess>> = {}
    for (const [server, env] of Object.entries(environments) as [Name, Readonly<Record<string, string>>][]) {
      const settings = { SLIPWAY_REGISTRY_ADDRESS: registry.address, ...env }
      const running = await services.start('inference', settings, `inference-${server}`)
      const control = createClient(ModelControlService, { address: running.address })
      await control.loadVersion(version)
      control.close()
      servers[server] = running
    }
    return { servers: servers as Record<Name, RunningProcess>, stop: services.stop }
  } catch (error) {
    await services.stop()
    throw error
  }
}

async function register(address: string, name: string, model: Uint8Array) {
  const registry = createClient(RegistryService, { address })
  await registry.createModel({ model: { name: `models/${name}` } })
  const version = await registerVersion(registry, name, model)
  registry.close()
  return version
}

/** Registers one more version of a model. */
export async function registerVersion(registry: Client<typeof RegistryService>, name: string, chunk: Uint8Array) {
  const digest = `sha256:${createHash('sha256').update(chunk).digest('hex')}`
  async function* upload() {
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES) {
      const piece = chunk.subarray(at, at + CHUNK_BYTES)
      yield { uploadId, offset: BigInt(at), chunk: piece, digest: at + CHUNK_BYTES >= chunk.length ? digest : '' }
    }
  }
  const uploadId = randomUUID()
  await registry.uploadFile(upload())
  const version = await registry.createVersion({
    parent: `models/${name}`,
    requestId: randomUUID(),
    files: [{ path: 'model.onnx', sizeBytes: BigInt(chunk.length), digest }],
  })
  return { name: version.name, digest: version.digest }
}

const CHUNK_BYTES = 256 * 1024
