/** Reads the body of a request, within limits. */
import type { IncomingMessage } from 'node:http'
import { decompress, knowsEncoding } from './compression.ts'
import { httpRefusal } from './failures.ts'
import type { HttpLimits } from './limits.ts'

/** How many bytes of bodies are held at once, over all requests. */
export class HeldBytes {
  readonly #maxBytes: number
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  /** One request's share. */
  share(): HeldShare {
    let held = 0
    return {
      add: (bytes) => {
        if (this.#bytes + bytes > this.#maxBytes) throw httpRefusal.tooManyBodies()
        this.#bytes += bytes
        held += bytes
      },
      release: () => {
        this.#bytes -= held
        held = 0
      },
    }
  }
}

/** What one request holds. */
export interface HeldShare {
  /** Holds more; throws RESOURCE_EXHAUSTED when all requests together would hold too much. */
  add(bytes: number): void
  /** Holds nothing any longer. */
  release(): void
}

/** Reads a body and undoes its Content-Encoding. Rejects with what is wrong with it; never settles when the caller is gone. */
export async function readBody(request: IncomingMessage, limits: HttpLimits, held: HeldShare): Promise<Buffer> {
  const encoding = request.headers['content-encoding']?.trim().toLowerCase() ?? 'identity'
  if (!knowsEncoding(encoding)) throw httpRefusal.unknownEncoding()
  const body = await readBytes(request, limits, held)
  if (encoding === 'identity') return body
  const plain = await decompress(body, encoding, limits.maxRequestBytes)
  held.add(plain.length)
  return plain
}

function readBytes(request: IncomingMessage, limits: HttpLimits, held: HeldShare): Promise<Buffer> {
  const { maxRequestBytes, maxDiscardedBytes } = limits
  if (Number(request.headers['content-length'] ?? 0) > maxRequestBytes + maxDiscardedBytes)
    return Promise.reject(httpRefusal.tooLarge('the body', maxRequestBytes))
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    let refusal: unknown
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (refusal === undefined) {
        try {
          if (bytes > maxRequestBytes) throw httpRefusal.tooLarge('the body', maxRequestBytes)
          held.add(chunk.length)
          chunks.push(chunk)
          return
        } catch (error) {
          // A sender looks for an answer only when it has sent everything: the rest is read, up to a limit.
          refusal = error
          chunks.length = 0
          held.release()
        }
      }
      if (bytes > maxRequestBytes + maxDiscardedBytes) reject(refusal)
    })
    request.on('end', () => {
      if (refusal !== undefined) reject(refusal)
      else resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))
    })
  })
}
