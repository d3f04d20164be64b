import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, createServer, Failure, implement } from '@slipway/rpc'

/** A registry that knows some versions by digest and can be away. */
export interface FakeRegistry {
  readonly address: string
  /** Answers with this code from now on; undefined: answers again. */
  refuse(code: Code | undefined): void
  /** Times it was asked. */
  calls(): number
  stop(): Promise<void>
}

/** Starts it. */
export async function fakeRegistry(versions: readonly ModelVersion[]): Promise<FakeRegistry> {
  let refusal: Code | undefined
  let calls = 0
  const getVersion = async ({ name }: { name: string }) => {
    calls += 1
    if (refusal !== undefined) throw new Failure(refusal, 'REFUSED', 'told to refuse')
    const version = versions.find(({ digest }) => digest === name)
    if (version === undefined) throw new Failure(Code.NOT_FOUND, 'VERSION_NOT_FOUND', `there is no ${name}`)
    return version
  }
  const server = createServer({
    implementations: [implement(RegistryService, { getVersion })],
    listen: { host: '127.0.0.1', port: 0 },
  })
  const { address } = await server.start()
  return {
    address,
    refuse: (code) => {
      refusal = code
    },
    calls: () => calls,
    stop: async () => await server.drain({ graceMs: 100 }),
  }
}
