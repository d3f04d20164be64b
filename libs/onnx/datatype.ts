import { TensorProto_DataType as Onnx } from '@slipway/proto/onnx/onnx'

/** A tensor's datatype, by its name in the Open Inference Protocol. */
export type Datatype = keyof typeof table

const table = {
  BOOL: { onnx: Onnx.BOOL, bytes: 1 },
  UINT8: { onnx: Onnx.UINT8, bytes: 1 },
  UINT16: { onnx: Onnx.UINT16, bytes: 2 },
  UINT32: { onnx: Onnx.UINT32, bytes: 4 },
  UINT64: { onnx: Onnx.UINT64, bytes: 8 },
  INT8: { onnx: Onnx.INT8, bytes: 1 },
  INT16: { onnx: Onnx.INT16, bytes: 2 },
  INT32: { onnx: Onnx.INT32, bytes: 4 },
  INT64: { onnx: Onnx.INT64, bytes: 8 },
  FP16: { onnx: Onnx.FLOAT16, bytes: 2 },
  FP32: { onnx: Onnx.FLOAT, bytes: 4 },
  FP64: { onnx: Onnx.DOUBLE, bytes: 8 },
  BF16: { onnx: Onnx.BFLOAT16, bytes: 2 },
  BYTES: { onnx: Onnx.STRING, bytes: 0 },
} as const

const byOnnx = new Map<number, Datatype>(Object.entries(table).map(([name, { onnx }]) => [onnx, name as Datatype]))

/** Bytes of one element; 0 for BYTES, whose elements have no fixed length. */
export function datatypeBytes(datatype: Datatype): number {
  return table[datatype].bytes
}

/** Tells whether a text names a datatype of the Open Inference Protocol (BF16 included). */
export function isDatatype(text: string): text is Datatype {
  return Object.hasOwn(table, text)
}

/** The number that ONNX gives the datatype. */
export function toOnnx(datatype: Datatype): number {
  return table[datatype].onnx
}

/** The datatype behind ONNX's number; undefined for complex numbers, 8-bit floats and what is not known. */
export function fromOnnx(code: number): Datatype | undefined {
  return byOnnx.get(code)
}
