import { create } from '@bufbuild/protobuf'
import {
  type GRPCInferenceService,
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
} from '@slipway/proto/inference/grpc_service'
import type { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import type { GoldenSet, ModelVersion, OutputBinding } from '@slipway/proto/slipway/registry/v1/model'
import { type Client, Code, Failure } from '@slipway/rpc'
import { inputsFor, rowCount } from './golden-set.ts'
import { parseVersionName } from './names.ts'
import { readColumn, rowOffsets } from './tensors.ts'

/** Parameter of an answer in which the inference service names the digest of what answered. */
const digestParameter = 'slipway_digest'

/** Has versions answer a golden set. */
export interface Scorer {
  /** Makes the version ready to answer. */
  load(version: ModelVersion, signal: AbortSignal): Promise<void>
  /** Yields how many rows are answered so far and returns the primary output of each row. */
  score(version: ModelVersion, goldenSet: GoldenSet, signal: AbortSignal): AsyncGenerator<number, Float64Array>
}

/** What the scorer over the inference service needs. */
export interface InferenceScorerOptions {
  readonly control: Client<typeof ModelControlService>
  readonly inference: Client<typeof GRPCInferenceService>
  readonly maxRowsPerCall: number
  readonly loadTimeoutMs: number
  readonly inferTimeoutMs: number
}

/** Scores through the inference service, exactly as the version will be served. */
export function inferenceScorer(options: InferenceScorerOptions): Scorer {
  const { control, inference, maxRowsPerCall } = options
  return {
    load: async (version, signal) => {
      const request = { name: version.name, digest: version.digest }
      const loaded = await control.loadVersion(request, { signal, timeoutMs: options.loadTimeoutMs })
      if (loaded.digest !== version.digest) throw foreignDigest(version, loaded.digest)
    },
    score: async function* (version, goldenSet, signal) {
      const primary = version.outputs[0]
      if (primary === undefined) throw new Failure(Code.INTERNAL, 'NO_OUTPUT', `${version.name} names no output`)
      const rows = rowCount(goldenSet)
      const scores = new Float64Array(rows)
      const slice = slicer(version, goldenSet, primary.tensor)
      for (let start = 0; start < rows; start += maxRowsPerCall) {
        const end = Math.min(rows, start + maxRowsPerCall)
        const answer = await inference.modelInfer(slice(start, end), { signal, timeoutMs: options.inferTimeoutMs })
        checkDigest(answer, version)
        scores.set(primaryOf(answer, primary, end - start), start)
        yield end
      }
      return scores
    },
  }
}

/** Cuts requests for rows `start` to `end` out of a golden set. */
function slicer(version: ModelVersion, goldenSet: GoldenSet, outputTensor: string) {
  const { modelId, number } = parseVersionName(version.name, 'name')
  const signature = version.signature
  if (signature === undefined) throw new Failure(Code.INTERNAL, 'NO_SIGNATURE', `${version.name} has no signature`)
  const inputs = inputsFor(goldenSet, signature, version.name).map((tensor) => ({
    tensor,
    offsets: rowOffsets(tensor, tensor.raw) ?? [],
  }))
  return (start: number, end: number): ModelInferRequest =>
    create(ModelInferRequestSchema, {
      modelName: modelId,
      modelVersion: String(number),
      inputs: inputs.map(({ tensor }) => ({
        name: tensor.name,
        datatype: tensor.datatype,
        shape: [BigInt(end - start), ...tensor.shape.slice(1)],
      })),
      outputs: [{ name: outputTensor }],
      rawInputContents: inputs.map(({ tensor, offsets }) => tensor.raw.subarray(offsets[start], offsets[end])),
    })
}

/** What answered must be what the report will be bound to. */
function checkDigest(answer: ModelInferResponse, version: ModelVersion): void {
  const parameter = answer.parameters[digestParameter]?.parameterChoice
  const digest = parameter?.case === 'stringParam' ? parameter.value : 'an artifact that it does not name'
  if (digest !== version.digest) throw foreignDigest(version, digest)
}

function foreignDigest(version: ModelVersion, digest: string): Failure {
  const message = `inference answers ${version.name} from ${digest}, the registry says ${version.digest}`
  return new Failure(Code.FAILED_PRECONDITION, 'DIGEST_MISMATCH', message, { metadata: { name: version.name } })
}

function primaryOf(answer: ModelInferResponse, primary: OutputBinding, rows: number): Float64Array {
  const index = answer.outputs.findIndex((output) => output.name === primary.tensor)
  const tensor = answer.outputs[index]
  const raw = answer.rawOutputContents[index]
  const scores = tensor && raw && readColumn(tensor, raw, primary.column)
  if (scores !== undefined && scores.length === rows) return scores
  const message = `the answer has no ${rows} numbers in column ${primary.column} of ${primary.tensor}`
  throw new Failure(Code.FAILED_PRECONDITION, 'UNUSABLE_ANSWER', message)
}
