/**
 * As much of HTTP/2 as a load generator needs: frames written by hand, so that making a call costs next to nothing beside answering it.
 * Headers are sent without compression state, so one block of bytes serves every call; answers' headers are not read.
 */

const FRAME_HEAD_BYTES = 9
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
const MAX_PAYLOAD_BYTES = 16_384
const MAX_WINDOW = 2 ** 31 - 1

/** Frame types. */
export const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const

/** Frame flags. */
export const frameFlag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8 } as const

/** What a connection begins with: preface, windows that never fill, no push. */
export function opening(): Buffer {
  const settings = Buffer.alloc(12)
  settings.writeUInt16BE(2, 0)
  settings.writeUInt32BE(0, 2)
  settings.writeUInt16BE(4, 6)
  settings.writeUInt32BE(MAX_WINDOW, 8)
  const window = Buffer.alloc(4)
  window.writeUInt32BE(MAX_WINDOW - 65_535)
  return Buffer.concat([
    PREFACE,
    frame(frameType.settings, 0, 0, settings),
    frame(frameType.windowUpdate, 0, 0, window),
  ])
}

/** One frame. Throws when the payload is larger than every server takes. */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  if (payload.length > MAX_PAYLOAD_BYTES) throw new RangeError(`${payload.length} bytes do not fit one frame`)
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(streamId, 5)
  return Buffer.concat([head, payload])
}

/** As few DATA frames as these bytes fit. */
export function dataFrames(streamId: number, bytes: Buffer): Buffer {
  const frames: Buffer[] = []
  for (let at = 0; at < bytes.length; at += MAX_PAYLOAD_BYTES) {
    frames.push(frame(frameType.data, 0, streamId, bytes.subarray(at, at + MAX_PAYLOAD_BYTES)))
  }
  return Buffer.concat(frames)
}

/** The header block of a gRPC request; `more` are further headers. */
export function requestHeaders(path: string, authority: string, more: Readonly<Record<string, string>> = {}): Buffer {
  const literal = (prefix: readonly number[], text: string): Buffer =>
    Buffer.concat([Buffer.from(prefix), Buffer.from([text.length]), Buffer.from(text, 'latin1')])
  const named = (name: string, value: string): Buffer => Buffer.concat([literal([0], name), literal([], value)])
  return Buffer.concat([
    Buffer.from([0x83, 0x86]), // :method POST, :scheme http
    literal([0x04], path),
    literal([0x01], authority),
    literal([0x0f, 0x10], 'application/grpc'), // content-type
    named('te', 'trailers'),
    ...Object.entries(more).map(([name, value]) => named(name, value)),
  ])
}

/** A gRPC message with its prefix. */
export function grpcFrame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

/** Hears the frames of a connection: type, flags, stream, and where the payload lies in the chunk's bytes. */
export type FrameListener = (
  type: number,
  flags: number,
  streamId: number,
  bytes: Buffer,
  start: number,
  end: number,
) => void

/** Cuts what a socket gives into frames. */
export function frameReader(listener: FrameListener): (chunk: Buffer) => void {
  let rest: Buffer | undefined
  return (chunk) => {
    const bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk])
    let at = 0
    while (bytes.length - at >= FRAME_HEAD_BYTES) {
      const start = at + FRAME_HEAD_BYTES
      const end = start + bytes.readUIntBE(at, 3)
      if (end > bytes.length) break
      listener(bytes[at + 3] as number, bytes[at + 4] as number, bytes.readUInt32BE(at + 5), bytes, start, end)
      at = end
    }
    rest = at < bytes.length ? bytes.subarray(at) : undefined
  }
}
