import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from 'node:http2'
import { percentDecode } from './status.ts'

// A caller for tests that puts bytes on an HTTP/2 stream exactly as it is told to, right or wrong.

/** Everything that came back on a stream. */
export interface Http2Answer {
  /** HTTP status. */
  readonly httpStatus: number
  /** `grpc-status`, from the trailers or, without them, the headers. */
  readonly status: string | undefined
  /** `grpc-message`, decoded. */
  readonly message: string
  /** Headers and trailers together. */
  readonly metadata: Readonly<Record<string, string>>
  /** DATA as it came, one entry for each chunk. */
  readonly chunks: readonly Buffer[]
  /** Code of the RST_STREAM that ended it; 0 when it ended well. */
  readonly resetCode: number
}

/** A call that is being made. */
export interface Http2Call {
  readonly stream: ClientHttp2Stream
  readonly answer: Promise<Http2Answer>
}

/** Connects in plain text. */
export function http2Session(address: string): ClientHttp2Session {
  const session = connect(`http://${address}`)
  session.on('error', () => {})
  return session
}

/** Opens a stream with the headers that gRPC asks for, or others. */
export function http2Call(session: ClientHttp2Session, path: string, headers: OutgoingHttpHeaders = {}): Http2Call {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  })
  const metadata: Record<string, string> = {}
  const chunks: Buffer[] = []
  const keep = (more: object): void => {
    for (const [name, value] of Object.entries(more)) metadata[name] = String(value)
  }
  stream.on('response', keep)
  stream.on('trailers', keep)
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('error', () => {})
  const answer = new Promise<Http2Answer>((resolve) => {
    stream.on('close', () =>
      resolve({
        httpStatus: Number(metadata[':status']),
        status: metadata['grpc-status'],
        message: percentDecode(metadata['grpc-message'] ?? ''),
        metadata,
        chunks,
        resetCode: stream.rstCode ?? 0,
      }),
    )
  })
  return { stream, answer }
}

/** The messages in DATA, however it was cut. */
export function messagesIn(chunks: readonly Buffer[]): string[] {
  const bytes = Buffer.concat(chunks)
  const messages: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1)
    messages.push(bytes.subarray(at + 5, end).toString())
    at = end
  }
  return messages
}
