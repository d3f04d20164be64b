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
  /** True when answers are kept and given again. */
  readonly keepsResponses?: boolean
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
 * them; any other has 0 there and its shapes as `ModelMetadata` gives them. Throws as `ModelMetadata` does.
 */
export function describeConfig(
  models: ModelTable,
  { name, version }: ModelQuestion,
  facts: ExecutionFacts,
): MessageInitShape<typeof ModelConfigResponseSchema> {
  const { signature, platform, number, digest, ensemble } = models.resolve(name, version)
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
      ...schedulingOf(takesRows, ensemble),
      parameters: { slipway_digest: { stringValue: digest } },
      modelTransactionPolicy: { decoupled: false },
      responseCache: { enable: facts.keepsResponses ?? false },
    },
  }
}

/** A graph of models has its steps; any other that takes rows is batched. */
function schedulingOf(takesRows: boolean, ensemble: Servable['ensemble']) {
  if (ensemble !== undefined) return { schedulingChoice: { case: 'ensembleScheduling' as const, value: ensemble } }
  return takesRows ? { schedulingChoice: { case: 'dynamicBatching' as const, value: dynamicBatching } } : {}
}

/** Requests are never held back, and each may say how long it waits. */
const dynamicBatching = {
  defaultQueuePolicy: { timeoutAction: TimeoutAction.REJECT, allowTimeoutOverride: true },
}
