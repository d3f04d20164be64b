import type { DescEnum, DescMessage } from '@bufbuild/protobuf'
import { GRPCInferenceService, file_inference_grpc_service as protocol } from '@slipway/proto/inference/grpc_service'
import { file_inference_model_config as configuration } from '@slipway/proto/inference/model_config'
import { expect, test } from 'vitest'

// The published names and numbers, written down from the specification and not from our files.
const published: Readonly<Record<string, string>> = {
  ServerLiveResponse: 'live=1',
  ServerReadyResponse: 'ready=1',
  ModelReadyRequest: 'name=1 version=2',
  ModelReadyResponse: 'ready=1',
  ServerMetadataResponse: 'name=1 version=2 extensions=3',
  ModelMetadataRequest: 'name=1 version=2',
  ModelMetadataResponse: 'name=1 versions=2 platform=3 inputs=4 outputs=5',
  'ModelMetadataResponse.TensorMetadata': 'name=1 datatype=2 shape=3',
  InferParameter: 'bool_param=1 int64_param=2 string_param=3 double_param=4 uint64_param=5',
  InferTensorContents:
    'bool_contents=1 int_contents=2 int64_contents=3 uint_contents=4 uint64_contents=5 fp32_contents=6 fp64_contents=7 bytes_contents=8',
  ModelInferRequest: 'model_name=1 model_version=2 id=3 parameters=4 inputs=5 outputs=6 raw_input_contents=7',
  'ModelInferRequest.InferInputTensor': 'name=1 datatype=2 shape=3 parameters=4 contents=5',
  'ModelInferRequest.InferRequestedOutputTensor': 'name=1 parameters=2',
  ModelInferResponse: 'model_name=1 model_version=2 id=3 parameters=4 outputs=5 raw_output_contents=6',
  'ModelInferResponse.InferOutputTensor': 'name=1 datatype=2 shape=3 parameters=4 contents=5',
  ModelStreamInferResponse: 'error_message=1 infer_response=2',
  ModelConfigRequest: 'name=1 version=2',
  ModelConfigResponse: 'config=1',
  ModelStatisticsRequest: 'name=1 version=2',
  ModelStatisticsResponse: 'model_stats=1',
  ModelStatistics:
    'name=1 version=2 last_inference=3 inference_count=4 execution_count=5 inference_stats=6 batch_stats=7 memory_usage=8 response_stats=9',
  StatisticDuration: 'count=1 ns=2',
  InferStatistics: 'success=1 fail=2 queue=3 compute_input=4 compute_infer=5 compute_output=6 cache_hit=7 cache_miss=8',
  InferBatchStatistics: 'batch_size=1 compute_input=2 compute_infer=3 compute_output=4',
  InferResponseStatistics: 'compute_infer=1 compute_output=2 success=3 fail=4 empty_response=5 cancel=6',
  MemoryUsage: 'type=1 id=2 byte_size=3',
  RepositoryIndexRequest: 'repository_name=1 ready=2',
  RepositoryIndexResponse: 'models=1',
  'RepositoryIndexResponse.ModelIndex': 'name=1 version=2 state=3 reason=4',
  RepositoryModelLoadRequest: 'repository_name=1 model_name=2 parameters=3',
  RepositoryModelUnloadRequest: 'repository_name=1 model_name=2 parameters=3',
  ModelRepositoryParameter: 'bool_param=1 int64_param=2 string_param=3 bytes_param=4',
  ModelConfig:
    'name=1 platform=2 version_policy=3 max_batch_size=4 input=5 output=6 instance_group=7 default_model_filename=8 dynamic_batching=11 parameters=14 ensemble_scheduling=15 backend=17 model_transaction_policy=19 response_cache=24 runtime=25',
  ModelInput: 'name=1 data_type=2 format=3 dims=4 reshape=5 is_shape_tensor=6 allow_ragged_batch=7 optional=8',
  ModelOutput: 'name=1 data_type=2 dims=3 label_filename=4 reshape=5 is_shape_tensor=6',
  ModelTransactionPolicy: 'decoupled=1',
  ModelResponseCache: 'enable=1',
  ModelDynamicBatching:
    'preferred_batch_size=1 max_queue_delay_microseconds=2 preserve_ordering=3 priority_levels=4 default_priority_level=5 default_queue_policy=6 priority_queue_policy=7',
  ModelQueuePolicy: 'timeout_action=1 default_timeout_microseconds=2 allow_timeout_override=3 max_queue_size=4',
  ModelVersionPolicy: 'latest=1 all=2 specific=3',
  ModelInstanceGroup: 'name=1 count=2 gpus=3 kind=4',
  ModelEnsembling: 'step=1',
  'ModelEnsembling.Step': 'model_name=1 model_version=2 input_map=3 output_map=4',
  DataType:
    'TYPE_INVALID=0 TYPE_BOOL=1 TYPE_UINT8=2 TYPE_UINT16=3 TYPE_UINT32=4 TYPE_UINT64=5 TYPE_INT8=6 TYPE_INT16=7 TYPE_INT32=8 TYPE_INT64=9 TYPE_FP16=10 TYPE_FP32=11 TYPE_FP64=12 TYPE_STRING=13 TYPE_BF16=14',
}

/** Messages and enums by their names below the package, as `name=number` by number. */
const found = new Map<string, string>()
const remember = ({ typeName }: { typeName: string }, entries: readonly { name: string; number: number }[]): void => {
  const sorted = [...entries].sort((left, right) => left.number - right.number)
  const numbers = sorted.map(({ name, number }) => `${name}=${number}`).join(' ')
  found.set(typeName.slice('inference.'.length), numbers)
}
const visit = ({ messages, enums }: { messages: readonly DescMessage[]; enums: readonly DescEnum[] }): void => {
  for (const one of enums) remember(one, one.values)
  for (const one of messages) {
    remember(one, one.fields)
    visit({ messages: one.nestedMessages, enums: one.nestedEnums })
  }
}
visit(protocol)
visit(configuration)

test.each(Object.entries(published))('%s has the published names and numbers', (name, numbers) => {
  expect(found.get(name)).toBe(numbers)
})

test('the service has the published methods', () => {
  const methods = GRPCInferenceService.methods.map(
    ({ name, methodKind, input, output }) => `${name} ${methodKind} ${input.name} ${output.name}`,
  )
  const unary = [
    'ServerLive',
    'ServerReady',
    'ModelReady',
    'ServerMetadata',
    'ModelMetadata',
    'ModelInfer',
    'ModelConfig',
    'ModelStatistics',
    'RepositoryIndex',
    'RepositoryModelLoad',
    'RepositoryModelUnload',
  ]
  const expected = unary.map((name) => `${name} unary ${name}Request ${name}Response`)
  expected.push('ModelStreamInfer bidi_streaming ModelInferRequest ModelStreamInferResponse')
  expect(GRPCInferenceService.typeName).toBe('inference.GRPCInferenceService')
  expect(methods.sort()).toEqual(expected.sort())
})
