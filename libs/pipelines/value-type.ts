/** The types that the values of an expression have, known before it is evaluated. */
import type { CelType } from '@bufbuild/cel'
import type { Datatype, TensorSpec } from '@slipway/onnx'

type PlainKind = 'bool' | 'int' | 'uint' | 'double' | 'string' | 'bytes' | 'null' | 'type' | 'timestamp' | 'duration'

/** A CEL type; `none` is that of an element of an empty list, `tensors` what a step's name stands for. */
export type ValueType =
  | { readonly kind: PlainKind | 'dyn' | 'none' }
  | { readonly kind: 'list'; readonly element: ValueType }
  | { readonly kind: 'map'; readonly key: ValueType; readonly value: ValueType }
  | { readonly kind: 'tensors'; readonly step: string; readonly fields: ReadonlyMap<string, ValueType> }

/** Types without parts. */
export const plain = {
  bool: { kind: 'bool' },
  int: { kind: 'int' },
  uint: { kind: 'uint' },
  double: { kind: 'double' },
  string: { kind: 'string' },
  dyn: { kind: 'dyn' },
  none: { kind: 'none' },
} as const satisfies Readonly<Record<string, ValueType>>

const tensorKinds: Readonly<Record<Datatype, ValueType | undefined>> = {
  BOOL: plain.bool,
  INT8: plain.int,
  INT16: plain.int,
  INT32: plain.int,
  INT64: plain.int,
  UINT8: plain.uint,
  UINT16: plain.uint,
  UINT32: plain.uint,
  UINT64: plain.uint,
  FP16: plain.double,
  FP32: plain.double,
  FP64: plain.double,
  BYTES: plain.string,
  // The runtime cannot carry it.
  BF16: undefined,
}

/** The type of one element of a tensor; undefined for what no expression can see. */
export function elementType(datatype: Datatype): ValueType | undefined {
  return tensorKinds[datatype]
}

/** The type of a tensor's value in one row: its element, in as many lists as it has dimensions after the first. */
export function rowType({ datatype, shape }: Pick<TensorSpec, 'datatype' | 'shape'>): ValueType | undefined {
  const element = elementType(datatype)
  if (element === undefined) return undefined
  let type = element
  for (let rank = 1; rank < shape.length; rank++) type = { kind: 'list', element: type }
  return type
}

/** A type as a person reads it. */
export function typeText(type: ValueType): string {
  if (type.kind === 'list') return `list(${typeText(type.element)})`
  if (type.kind === 'map') return `map(${typeText(type.key)}, ${typeText(type.value)})`
  if (type.kind === 'tensors') return `the tensors of '${type.step}'`
  return type.kind === 'none' ? 'nothing' : type.kind
}

/** The type of a value that has one or the other; undefined when nothing but `dyn` could say so. */
export function join(left: ValueType, right: ValueType): ValueType | undefined {
  if (left.kind === 'none') return right
  if (right.kind === 'none') return left
  if (left.kind === 'dyn' || right.kind === 'dyn') return plain.dyn
  if (left.kind === 'list' && right.kind === 'list') {
    const element = join(left.element, right.element)
    return element && { kind: 'list', element }
  }
  if (left.kind === 'map' && right.kind === 'map') {
    const key = join(left.key, right.key)
    const value = join(left.value, right.value)
    return key && value && { kind: 'map', key, value }
  }
  if (left.kind === 'tensors' || right.kind === 'tensors') return undefined
  return left.kind === right.kind ? left : undefined
}

/** Whether a function that takes one type can be given the other. */
export function accepts(parameter: ValueType, argument: ValueType): boolean {
  return argument.kind !== 'tensors' && join(parameter, argument) !== undefined
}

/** A type as the CEL library writes it. */
export function fromCelType(type: CelType): ValueType {
  if (type.kind === 'list') return { kind: 'list', element: fromCelType(type.element) }
  if (type.kind === 'map') return { kind: 'map', key: fromCelType(type.key), value: fromCelType(type.value) }
  if (type.kind === 'object') {
    return { kind: type.name === 'google.protobuf.Timestamp' ? 'timestamp' : 'duration' }
  }
  return { kind: type.scalar === 'null_type' ? 'null' : type.scalar }
}
