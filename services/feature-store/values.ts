/** Values of features and keys: their types, and how strictly they are taken. */
import { type Value, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { microsFromTimestamp } from '@slipway/resources'
import { isValidTimestamp } from './time.ts'

/** A value inside the service: INT64 and TIMESTAMP (microseconds) are bigint. */
export type FeatureValue = null | number | bigint | string | boolean | Uint8Array

/** Why a value is refused, for a program and for people. */
export interface ValueProblem {
  readonly code: 'WRONG_TYPE' | 'LOSSY_CAST' | 'OUT_OF_RANGE' | 'TOO_LONG' | 'NULL_KEY'
  readonly description: string
}

/** A value, or why it is refused. */
export type Checked = { readonly value: FeatureValue } | { readonly problem: ValueProblem }

/** Longest text or byte string. */
export const maxValueBytes = 64 * 1024

/** Integers up to this size are floating-point numbers without loss. */
const maxExactInteger = 2n ** 53n

const typeNames: Readonly<Record<ValueType, string>> = {
  [ValueType.UNSPECIFIED]: 'nothing',
  [ValueType.BOOL]: 'bool',
  [ValueType.INT64]: 'int64',
  [ValueType.DOUBLE]: 'double',
  [ValueType.STRING]: 'string',
  [ValueType.BYTES]: 'bytes',
  [ValueType.TIMESTAMP]: 'timestamp',
}

/** Reads a value as a declared type. Nothing is inferred and nothing is rounded. */
export function checkValue(message: Value | undefined, type: ValueType): Checked {
  const kind = message?.kind
  if (kind?.case === undefined) return { value: null }
  switch (kind.case) {
    case 'doubleValue':
      return type === ValueType.DOUBLE ? { value: kind.value } : wrongType(type, 'double')
    case 'int64Value':
      if (type === ValueType.INT64) return { value: kind.value }
      return type === ValueType.DOUBLE ? exactDouble(kind.value) : wrongType(type, 'int64')
    case 'stringValue':
      return type === ValueType.STRING ? sized(kind.value, bytesOfText(kind.value)) : wrongType(type, 'string')
    case 'boolValue':
      return type === ValueType.BOOL ? { value: kind.value } : wrongType(type, 'bool')
    case 'bytesValue':
      return type === ValueType.BYTES ? sized(kind.value, kind.value.length) : wrongType(type, 'bytes')
    case 'timestampValue':
      if (type !== ValueType.TIMESTAMP) return wrongType(type, 'timestamp')
      if (isValidTimestamp(kind.value)) return { value: microsFromTimestamp(kind.value) }
      return problem('OUT_OF_RANGE', 'a timestamp lies in the years 1 to 9999')
  }
}

/** Reads a join key: as a value, and never null. */
export function checkKey(message: Value | undefined, type: ValueType): Checked {
  const checked = checkValue(message, type)
  return 'value' in checked && checked.value === null ? problem('NULL_KEY', 'a join key has a value') : checked
}

function exactDouble(value: bigint): Checked {
  if (value <= maxExactInteger && value >= -maxExactInteger) return { value: Number(value) }
  return problem('LOSSY_CAST', `${value} is no double: integers beyond 2^53 are rounded`)
}

/** A text never has fewer bytes than characters, nor more than three a character. */
function bytesOfText(text: string): number {
  const atMost = text.length * 3
  return atMost <= maxValueBytes || text.length > maxValueBytes ? text.length : Buffer.byteLength(text)
}

function sized(value: string | Uint8Array, length: number): Checked {
  if (length <= maxValueBytes) return { value }
  return problem('TOO_LONG', `a value has ${maxValueBytes} bytes at most`)
}

function wrongType(expected: ValueType, got: string): Checked {
  return problem('WRONG_TYPE', `expected ${typeNames[expected]}, got ${got}`)
}

function problem(code: ValueProblem['code'], description: string): Checked {
  return { problem: { code, description } }
}
