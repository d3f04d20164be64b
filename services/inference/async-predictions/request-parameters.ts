import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'

/** Whether bytes are a request of the protocol. */
export function isRequest(bytes: Uint8Array): boolean {
  try {
    fromBinary(ModelInferRequestSchema, bytes)
    return true
  } catch {
    return false
  }
}

/**
 * A request with parameters that hold where it says nothing itself: fields of a map that come later win, so they go in
 * front, and the request's own bytes stay as they are.
 */
export function withDefaults(
  request: Uint8Array,
  { priority, traceParent }: { readonly priority: number; readonly traceParent: string | undefined },
): Buffer {
  const parameters = create(ModelInferRequestSchema, {
    parameters: {
      priority: { parameterChoice: { case: 'int64Param', value: BigInt(priority) } },
      ...(traceParent === undefined
        ? {}
        : { traceparent: { parameterChoice: { case: 'stringParam' as const, value: traceParent } } }),
    },
  })
  return Buffer.concat([toBinary(ModelInferRequestSchema, parameters), request])
}
