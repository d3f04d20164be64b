/** How a model is run, in the terms that clients of the protocol read. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Datatype, TensorSpec } from '@slipway/onnx'
import type { ModelConfigResponseSchema } from '@slipway/proto/inference/grpc_service'
import {
  DataType,
  ModelInstanceGroup_Kind as Kind,
  ModelQueuePolicy_TimeoutAction as TimeoutAction,
} from '@slipway/proto/inference/model_config'
import type { ModelQuestion } from './model-metadata.ts'
import type { ModelTable } from './model-table.ts'
import type { Servable } from './servable.ts'

const MAX_BATCH_SIZE = 2 ** 31 - 1

/** How the server runs versions that say nothing else. */
export interface ExecutionFacts {
  readonly maxBatchRows: number
  readonly executorsPerVersion: number
  /** How long a batch is held back for more requests. */
  readonly delayMs?: number | undefined
  /** A batch of so many rows is not held back. */
  readonly preferredBatchRows?: number | undefined
  /** True when answers are kept and given again. */
  readonly keepsResponses?: boolean
  /** What is otherwise for a model. */
  readonly ofModel?: (model: string) => Partial<Omit<ExecutionFacts, 'ofModel'>>
}

const dataTypes: Readonly<Record<Datatype, DataType>> = {
  BOOL: DataType.TYPE_BOOL,
  UINT8: DataType.TYPE_UINT8,
  UINT16: DataType.TYPE_UINT16,
  UINT32: DataType.TYPE_UINT32,
  UINT64: DataType.TYPE_UINT64,
  INT8: DataType.TYPE_INT8,
  INT16: DataType.TYPE_INT16,
  INT32: DataType.TYPE_INT32,
  INT64: DataType.TYPE_INT64,
  FP16: DataType.TYPE_FP16,
  FP32: DataType.TYPE_FP32,
  FP64: DataType.TYPE_FP64,
  BYTES: DataType.TYPE_STRING,
  BF16: DataType.TYPE_BF16,
}

/**
 * Answers `ModelConfig`. A model that takes rows has a `max_batch_size`, and `dims` without the dimension that counts
 * them; any other has 0 there and its shapes as `ModelMetadata` gives them. Rejects as `ModelMetadata` does.
 */
export async function describeConfig(
  models: ModelTable,
  { name, version }: ModelQuestion,
  server: ExecutionFacts,
): Promise<MessageInitShape<typeof ModelConfigResponseSchema>> {
  const { signature, platform, number, digest, ensemble } = await models.acquire(name, version)
  const facts = { ...server, ...server.ofModel?.(name) }
  const { takesRows } = signature
  const versions = version === '' ? models.readyVersions(name) : [number]
  const dims = ({ shape }: TensorSpec) => shape.slice(takesRows ? 1 : 0).map(BigInt)
  return {
    config: {
      name,
      platform,
      backend: platform.split('_', 1)[0] ?? '',
      versionPolicy: { policyChoice: { case: 'specific', value: { versions: versions.map(BigInt) } } },
      maxBatchSize: takesRows ? Math.min(facts.maxBatchRows, MAX_BATCH_SIZE) : 0,
      input: signature.inputs.map((spec) => ({
        name: spec.name,
        dataType: dataTypes[spec.datatype],
        dims: dims(spec),
      })),
      output: signature.outputs.map((spec) => ({
        name: spec.name,
        dataType: dataTypes[spec.datatype],
        dims: dims(spec),
      })),
      instanceGroup: [{ name: `${name}_0`, count: facts.executorsPerVersion, kind: Kind.CPU }],
      ...schedulingOf(takesRows, ensemble, facts),
      parameters: { slipway_digest: { stringValue: digest } },
      modelTransactionPolicy: { decoupled: false },
      responseCache: { enable: facts.keepsResponses ?? false },
    },
  }
}

/** A graph of models has its steps; any other that takes rows is batched. */
function schedulingOf(takesRows: boolean, ensemble: Servable['ensemble'], facts: ExecutionFacts) {
  if (ensemble !== undefined) return { schedulingChoice: { case: 'ensembleScheduling' as const, value: ensemble } }
  return takesRows ? { schedulingChoice: { case: 'dynamicBatching' as const, value: dynamicBatching(facts) } } : {}
}

/** Requests are not held back unless that is set, and each may say how long it waits. */
function dynamicBatching({ delayMs = 0, preferredBatchRows }: ExecutionFacts) {
  return {
    maxQueueDelayMicroseconds: BigInt(Math.round(delayMs * 1000)),
    preferredBatchSize: preferredBatchRows === undefined ? [] : [preferredBatchRows],
    defaultQueuePolicy: { timeoutAction: TimeoutAction.REJECT, allowTimeoutOverride: true },
  }
}
