/** An inference service for tests: answers by a function of each row's first value, as raw FP32. */
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { LoadState, ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { Code, createServer, Failure, implement } from '@slipway/rpc'
import { readColumn } from './tensors.ts'

/** A fake inference service that runs. */
export interface FakeInference {
  readonly address: string
  /** What each version answers to a row's first value, by the version's number; `value / 10` unless set. */
  readonly scores: Map<string, (value: number) => number>
  /** Failures to throw on loading a version, by its name. */
  readonly loadFailures: Map<string, Failure>
  /** Versions in the order in which they were loaded, and how many rows each call asked about. */
  readonly loaded: string[]
  readonly callRows: number[]
  /** Awaited before every answer. */
  gate: Promise<void>
  stop(): Promise<void>
}

/** Starts one on a free port, or on a given one. */
export async function startFakeInference(port = 0): Promise<FakeInference> {
  const scores: FakeInference['scores'] = new Map()
  const loadFailures: FakeInference['loadFailures'] = new Map()
  const loaded: string[] = []
  const digests = new Map<string, string>()
  const callRows: number[] = []
  const control = implement(ModelControlService, {
    loadVersion: async ({ name, digest }) => {
      digests.set(name, digest)
      const failure = loadFailures.get(name)
      if (failure !== undefined) throw failure
      loaded.push(name)
      return { name, digest, state: LoadState.READY }
    },
  })
  const inference = implement(GRPCInferenceService, {
    modelInfer: async ({ modelName, modelVersion, inputs, rawInputContents }) => {
      await fake.gate
      const digest = digests.get(`models/${modelName}/versions/${modelVersion}`) ?? ''
      const [input] = inputs
      const [raw] = rawInputContents
      if (!loaded.includes(`models/${modelName}/versions/${modelVersion}`) || !input || !raw) {
        throw new Failure(Code.UNAVAILABLE, 'MODEL_NOT_READY', 'not loaded')
      }
      const rows = Number(input.shape[0])
      callRows.push(rows)
      const score = scores.get(modelVersion) ?? ((value: number) => value / 10)
      const answers = Float32Array.from(readColumn(input, raw, 0) ?? [], score)
      return {
        modelName,
        modelVersion,
        parameters: { slipway_digest: { parameterChoice: { case: 'stringParam', value: digest } } },
        outputs: [{ name: 'probability', datatype: 'FP32', shape: [BigInt(rows), 1n] }],
        rawOutputContents: [new Uint8Array(answers.buffer)],
      }
    },
  })
  const server = createServer({ implementations: [control, inference], listen: { host: '127.0.0.1', port } })
  const { address } = await server.start()
  const stop = async () => await server.drain({ graceMs: 0 })
  const fake: FakeInference = { address, scores, loadFailures, loaded, callRows, gate: Promise.resolve(), stop }
  return fake
}
