/** The model of the benchmarks, a perceptron 16-64-32-1, and a request for it. */
import { create, toBinary } from '@bufbuild/protobuf'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { PredictRequestSchema } from '@slipway/proto/slipway/routing/v1/prediction_service'

/** Columns of the model's input. */
export const FEATURES = 16

/** The model's bytes. */
export function benchModel(): Uint8Array {
  return mlpModel({ layers: randomLayers([FEATURES, 64, 32, 1], 1) })
}

/** The raw bytes of rows of features. */
export function benchRows(rows: number): Buffer {
  const values = Float32Array.from({ length: rows * FEATURES }, (_, index) => Math.sin(index))
  return Buffer.from(values.buffer)
}

/** A request for so many rows, in base64. */
export function benchRequest(model: string, rows = 1): string {
  const request = create(ModelInferRequestSchema, {
    modelName: model,
    id: 'b-000001',
    inputs: [{ name: 'features', datatype: 'FP32', shape: [BigInt(rows), BigInt(FEATURES)] }],
    rawInputContents: [benchRows(rows)],
  })
  return Buffer.from(toBinary(ModelInferRequestSchema, request)).toString('base64')
}

/** A request for one prediction from the features of a stored entity, in base64. */
export function predictRequest(endpoint: string, entityKey: string): string {
  const caller = { kind: { case: 'stringValue' as const, value: entityKey } }
  const request = create(PredictRequestSchema, {
    endpoint: `endpoints/${endpoint}`,
    instances: [{ entityKeys: { caller } }],
  })
  return Buffer.from(toBinary(PredictRequestSchema, request)).toString('base64')
}
