/**
 * Whether the bytes of a head are a message in every part. The decoder reads on where a part of a message is longer than
 * the message that it lies in, and reads a field in another wire type than its own as if it were in that: what it makes of
 * such bytes is not what the caller wrote.
 */
import { FIXED32, FIXED64, Fields, LENGTH_DELIMITED, MalformedMessage, VARINT } from './wire.ts'

/** How a field is written; the plural ones alone or packed, an array is a message with its fields by number. */
type Kind = 'varint' | 'fixed64' | 'bytes' | 'varints' | 'fixed32s' | 'fixed64s' | Message
type Message = readonly (Kind | undefined)[]

const parameter: Message = [undefined, 'varint', 'varint', 'bytes', 'fixed64', 'varint']
const entry: Message = [undefined, 'bytes', parameter]
const varints = Array.from({ length: 5 }, () => 'varints' as const)
const contents: Message = [undefined, ...varints, 'fixed32s', 'fixed64s', 'bytes']
const input: Message = [undefined, 'bytes', 'bytes', 'varints', entry, contents]
const output: Message = [undefined, 'bytes', entry]
const request: Message = [undefined, 'bytes', 'bytes', 'bytes', entry, input, output, 'bytes']

/** Throws {@link MalformedMessage} when bytes are not a ModelInferRequest in every part. */
export function checkHead(bytes: Buffer): void {
  checkMessage(bytes, 0, bytes.length, request)
}

function checkMessage(bytes: Buffer, start: number, end: number, kinds: Message): void {
  const fields = new Fields(bytes, start, end)
  while (fields.next()) {
    const kind = kinds[fields.field]
    if (kind === undefined) continue
    const isPacked = fields.wire === LENGTH_DELIMITED
    if (typeof kind !== 'string' && isPacked) checkMessage(bytes, fields.start, fields.end, kind)
    else if (isPacked ? !isWhole(bytes, fields, kind) : fields.wire !== wireTypes.get(kind))
      throw new MalformedMessage(`field ${fields.field} has wire type ${fields.wire}, or ends in the middle of a value`)
  }
}

/** The wire type of a value that stands alone; none for those that only are length-delimited. */
const wireTypes: ReadonlyMap<Kind, number> = new Map<Kind, number>([
  ['varint', VARINT],
  ['varints', VARINT],
  ['fixed32s', FIXED32],
  ['fixed64', FIXED64],
  ['fixed64s', FIXED64],
])

/** Whether a length-delimited field may be one of its kind, and ends where a value ends. */
function isWhole(bytes: Buffer, { start, end }: Fields, kind: Kind): boolean {
  if (kind === 'bytes') return true
  if (kind === 'fixed32s') return (end - start) % 4 === 0
  if (kind === 'fixed64s') return (end - start) % 8 === 0
  return kind === 'varints' && (end === start || (bytes[end - 1] as number) < 0x80)
}
