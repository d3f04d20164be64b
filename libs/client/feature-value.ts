/** Feature values and entity keys as plain JavaScript values. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Value, ValueSchema } from '@slipway/proto/slipway/features/v1/value'

/** What a feature value can be here; `null` is a value that is known to be none. */
export type PlainValue = number | bigint | boolean | string | Uint8Array | Date | null

/** What a call takes as a value. */
export type ValueInit = MessageInitShape<typeof ValueSchema>

/** A plain value for a request: numbers are doubles, bigints 64-bit integers. */
export function toValue(plain: PlainValue): ValueInit {
  if (plain === null) return {}
  if (plain instanceof Uint8Array) return { kind: { case: 'bytesValue', value: plain } }
  if (plain instanceof Date) return { kind: { case: 'timestampValue', value: timestampFromDate(plain) } }
  switch (typeof plain) {
    case 'number':
      return { kind: { case: 'doubleValue', value: plain } }
    case 'bigint':
      return { kind: { case: 'int64Value', value: plain } }
    case 'boolean':
      return { kind: { case: 'boolValue', value: plain } }
    default:
      return { kind: { case: 'stringValue', value: plain } }
  }
}

/** The plain value of an answer. */
export function fromValue({ kind }: Pick<Value, 'kind'>): PlainValue {
  if (kind.case === undefined) return null
  return kind.case === 'timestampValue' ? timestampDate(kind.value) : kind.value
}

/** Plain values by name, for the maps of a request. */
export function toValues(plain: Readonly<Record<string, PlainValue>>): Record<string, ValueInit> {
  return Object.fromEntries(Object.entries(plain).map(([name, value]) => [name, toValue(value)]))
}
