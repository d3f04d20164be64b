/** Messages of the protocol as JSON: the field names of the proto, every field there, integers as numbers. */
import { create, type DescMessage, type JsonValue, type MessageInitShape, ScalarType, toJson } from '@bufbuild/protobuf'

const longs: ReadonlySet<ScalarType> = new Set([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
])

/** A message as a JSON value. A 64-bit integer is a number, which is what clients read; beyond ±(2^53 - 1) it is a string. */
export function messageJson<S extends DescMessage>(schema: S, message: MessageInitShape<S>): JsonValue {
  const json = toJson(schema, create(schema, message), { useProtoFieldName: true, alwaysEmitImplicit: true })
  return withNumbers(schema, json)
}

function withNumbers(schema: DescMessage, json: JsonValue): JsonValue {
  const fields = json as Record<string, JsonValue>
  for (const field of schema.fields) {
    const value = fields[field.name]
    if (value === undefined) continue
    const isLong = field.scalar !== undefined && longs.has(field.scalar)
    const { message } = field
    if (isLong) fields[field.name] = mapped(field.fieldKind, value, numberFrom)
    else if (message !== undefined)
      fields[field.name] = mapped(field.fieldKind, value, (item) => withNumbers(message, item))
  }
  return json
}

function mapped(kind: string, value: JsonValue, change: (item: JsonValue) => JsonValue): JsonValue {
  if (kind === 'list') return (value as JsonValue[]).map(change)
  if (kind !== 'map') return change(value)
  return Object.fromEntries(
    Object.entries(value as Record<string, JsonValue>).map(([key, item]) => [key, change(item)]),
  )
}

function numberFrom(value: JsonValue): JsonValue {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
