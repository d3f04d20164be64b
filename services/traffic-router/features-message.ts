/** GetOnlineFeatures requests and answers as bytes, straight from and into the order of a version's features. */
import { Code, Failure } from '@slipway/rpc'
import type { Plan } from './plan.ts'
import { NOT_FOUND, PRESENT } from './predict-message.ts'
import type { Scalar } from './tensors.ts'
import { FieldReader, readIntegers } from './wire-reader.ts'
import { FieldWriter } from './wire-writer.ts'

/** The stored features of one instance, in the order of `Plan.storedFeatures`. */
export interface FeatureVector {
  /** Undefined where there is no value. */
  readonly values: readonly (Scalar | undefined)[]
  readonly statuses: Uint8Array
  /** Event times in microseconds since the epoch; 0 where there is no row. */
  readonly timesMicros: readonly (number | bigint)[]
}

const writer = new FieldWriter()

/** A request for the features of one version and of many entity rows. */
export function encodeOnlineRequest(
  wanted: { readonly featureService: string; readonly plan: Plan; readonly asOfMicros: number | undefined },
  entityRows: readonly Buffer[],
): Buffer {
  writer.clear()
  if (wanted.featureService !== '') writer.text(1, wanted.featureService)
  else {
    const list = writer.open(2)
    for (const index of wanted.plan.storedFeatures) writer.text(1, wanted.plan.features[index]?.reference ?? '')
    writer.close(list)
  }
  for (const row of entityRows) writer.bytes(3, row)
  if (wanted.asOfMicros !== undefined) {
    const time = writer.open(4)
    const seconds = Math.floor(wanted.asOfMicros / 1_000_000)
    writer.signedInteger(1, seconds)
    writer.integer(2, (wanted.asOfMicros - seconds * 1_000_000) * 1_000)
    writer.close(time)
  }
  return writer.take()
}

type Packed = 'doubles' | 'int64s' | 'strings' | 'bytes'

/** Where a version's stored features stand in the answers of the store. */
interface Layout {
  /** The bytes of the answer before its vectors: the names and types that the layout was made from. */
  readonly head: Buffer
  /** For each stored feature its column, and where its value stands among those of its type. */
  readonly columns: readonly { readonly column: number; readonly packed: Packed; readonly rank: number }[]
}

/** The newest layout of each plan; answers of one store have the same head until a view changes. */
const layouts = new WeakMap<Plan, Layout>()

/** The vectors of an answer. Throws FAILED_PRECONDITION when it lacks a feature that the version is bound to. */
export function decodeVectors(response: Buffer, plan: Plan, rows: number): FeatureVector[] {
  const reader = new FieldReader(response)
  const vectors: FeatureVector[] = []
  let layout: Layout | undefined
  let at = 0
  while (reader.next()) {
    if (reader.field === 3) {
      layout ??= layoutOf(response.subarray(0, at), plan)
      if (vectors.length < rows) vectors.push(decodeVector(response, reader.message(), layout))
    }
    at = reader.end
  }
  return vectors
}

function layoutOf(head: Buffer, plan: Plan): Layout {
  const known = layouts.get(plan)
  if (known?.head.equals(head)) return known
  const names: string[] = []
  const types: (number | bigint)[] = []
  const reader = new FieldReader(head)
  while (reader.next()) {
    if (reader.field === 1) names.push(reader.text())
    else if (reader.field === 2) readIntegers(reader, head, types)
  }
  const columns = plan.storedFeatures.map((index) => {
    const reference = plan.features[index]?.reference ?? ''
    const column = names.indexOf(reference)
    if (column < 0)
      throw new Failure(Code.FAILED_PRECONDITION, 'FEATURE_NOT_SERVED', `the feature store does not give ${reference}`)
    const packed = packedBy(Number(types[column]))
    if (packed === 'bytes')
      throw new Failure(Code.FAILED_PRECONDITION, 'FEATURE_NOT_SERVED', `${reference} has a type that no tensor takes`)
    const rank = types.slice(0, column).filter((type) => packedBy(Number(type)) === packed).length
    return { column, packed, rank }
  })
  const layout = { head: Buffer.from(head), columns }
  layouts.set(plan, layout)
  return layout
}

/** Where values of a `slipway.features.v1.ValueType` stand in a vector. */
function packedBy(type: number): Packed {
  if (type === 3) return 'doubles'
  if (type === 1 || type === 2 || type === 6) return 'int64s'
  return type === 4 ? 'strings' : 'bytes'
}

function decodeVector(bytes: Buffer, reader: FieldReader, layout: Layout): FeatureVector {
  const statuses: (number | bigint)[] = []
  const int64s: (number | bigint)[] = []
  const times: (number | bigint)[] = []
  const strings: string[] = []
  let doublesAt = 0
  while (reader.next()) {
    if (reader.field === 1) readIntegers(reader, bytes, statuses)
    else if (reader.field === 2) doublesAt = reader.start
    else if (reader.field === 3) readIntegers(reader, bytes, int64s)
    else if (reader.field === 4) strings.push(reader.text())
    else if (reader.field === 6) readIntegers(reader, bytes, times)
  }
  const values = new Array<Scalar | undefined>(layout.columns.length)
  const found = new Uint8Array(layout.columns.length)
  const timesMicros = new Array<number | bigint>(layout.columns.length)
  for (let index = 0; index < layout.columns.length; index++) {
    const place = layout.columns[index]
    if (place === undefined) continue
    const status = Number(statuses[place.column] ?? NOT_FOUND)
    found[index] = status
    timesMicros[index] = times[place.column] ?? 0
    if (status !== PRESENT) continue
    if (place.packed === 'doubles') values[index] = bytes.readDoubleLE(doublesAt + place.rank * 8)
    else values[index] = place.packed === 'int64s' ? int64s[place.rank] : strings[place.rank]
  }
  return { values, statuses: found, timesMicros }
}
