/** Online reads: one look-up for each view and entity, packed in the order of the columns. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import { AsOf, type FeatureVectorSchema } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { type FeatureRow, FeatureStatus, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { Failure } from '@slipway/rpc'
import type { FeatureColumn } from './feature-services.ts'
import type { OnlineStore, RowKey, StoredRow } from './online-store/online-store.ts'
import { packValues, unpackValues } from './packing.ts'
import { type Status, statusOf, type Visibility } from './rule.ts'
import { checkKey, type FeatureValue } from './values.ts'
import type { ViewVersion } from './view.ts'

/** What a request says about which rows count; knowledge counts unless it says otherwise. */
export function visibilityOf(asOf: AsOf): Visibility {
  return asOf === AsOf.EVENT ? 'event' : 'known'
}

/** A vector as the wire takes it. */
export type VectorInit = MessageInitShape<typeof FeatureVectorSchema>

/** What to read. */
export interface OnlineRead {
  readonly columns: readonly FeatureColumn[]
  readonly entityRows: readonly { readonly keys: FeatureRow['entityKeys'] }[]
  /** T of the rule. */
  readonly timeMicros: bigint
  readonly visibility: Visibility
  /** Answer the values of features that are too old. */
  readonly includeStale: boolean
}

/** Most values that one read answers: columns times entity rows. */
export const maxReadValues = 256 * 1024

/**
 * Reads the columns of each entity row. INVALID_ARGUMENT names the row and the key that is wrong, or `entity_rows` when
 * `maxReadValues` would be exceeded.
 */
export async function readOnline(store: OnlineStore, read: OnlineRead): Promise<VectorInit[]> {
  const views = [...new Set(read.columns.map(({ view }) => view))]
  if (read.columns.length * read.entityRows.length > maxReadValues) {
    const rows = Math.floor(maxReadValues / read.columns.length)
    throw Failure.invalid('entity_rows', `${read.columns.length} features can be read of ${rows} rows at a time`)
  }
  const keys: RowKey[] = read.entityRows.flatMap((row, place) =>
    views.map((view) => ({ tableId: view.tableId, key: keyOf(row.keys, view, place) })),
  )
  const rows = await store.read(keys, read.timeMicros, read.visibility)
  return read.entityRows.map((_, place) => {
    const found = new Map<ViewVersion, Found>()
    for (const [index, view] of views.entries()) found.set(view, lookAt(rows[place * views.length + index], view))
    return vectorOf(read, found)
  })
}

interface Found {
  readonly row: StoredRow | undefined
  readonly values: readonly FeatureValue[]
}

function lookAt(row: StoredRow | undefined, view: ViewVersion): Found {
  return { row, values: row === undefined ? [] : unpackValues(row.payload, view.features.length) }
}

function vectorOf(read: OnlineRead, found: ReadonlyMap<ViewVersion, Found>): VectorInit {
  const vector = {
    statuses: [] as FeatureStatus[],
    eventTimesMicros: [] as bigint[],
    doubles: [] as number[],
    int64s: [] as bigint[],
    strings: [] as string[],
    bytesValues: [] as Uint8Array[],
  }
  for (const { view, index, type } of read.columns) {
    const { row, values } = found.get(view) ?? { row: undefined, values: [] }
    const value = values[index] ?? null
    const status = statusOf(row, value === null, read.timeMicros, view.ttlMicros)
    vector.statuses.push(wireStatus[status])
    vector.eventTimesMicros.push(status === 'not-found' || row === undefined ? 0n : row.eventMicros)
    const isShown = status === 'present' || (read.includeStale && status === 'outside-max-age')
    pack(vector, isShown ? value : null, type)
  }
  return vector
}

const wireStatus: Readonly<Record<Status, FeatureStatus>> = {
  present: FeatureStatus.PRESENT,
  null: FeatureStatus.NULL_VALUE,
  'not-found': FeatureStatus.NOT_FOUND,
  'outside-max-age': FeatureStatus.OUTSIDE_MAX_AGE,
}

interface Packed {
  readonly doubles: number[]
  readonly int64s: bigint[]
  readonly strings: string[]
  readonly bytesValues: Uint8Array[]
}

function pack(vector: Packed, value: FeatureValue, type: ValueType): void {
  switch (type) {
    case ValueType.DOUBLE:
      vector.doubles.push(typeof value === 'number' ? value : Number.NaN)
      return
    case ValueType.STRING:
      vector.strings.push(typeof value === 'string' ? value : '')
      return
    case ValueType.BYTES:
      vector.bytesValues.push(value instanceof Uint8Array ? value : new Uint8Array())
      return
    default:
      vector.int64s.push(typeof value === 'bigint' || typeof value === 'boolean' ? BigInt(value) : 0n)
  }
}

function keyOf(keys: FeatureRow['entityKeys'], view: ViewVersion, place: number): Uint8Array {
  const values = view.keys.map(({ name, type }) => {
    const checked = checkKey(keys[name], type)
    if ('problem' in checked) throw Failure.invalid(`entity_rows[${place}].keys.${name}`, checked.problem.description)
    return checked.value
  })
  return packValues(values)
}
