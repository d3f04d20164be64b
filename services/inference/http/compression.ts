/** gzip and deflate, off the event loop, and never more than a limit of bytes. */
import { promisify } from 'node:util'
import { deflate, gunzip, gzip, inflate } from 'node:zlib'
import { httpRefusal } from './failures.ts'

/** Below this an answer is not worth compressing. */
export const MIN_COMPRESSED_BYTES = 1024
/** Tensors hardly shrink more at a higher level, which costs several times as much. */
const LEVEL = 1

const decoders = new Map([
  ['gzip', promisify(gunzip)],
  ['x-gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
])
const encoders = { gzip: promisify(gzip), deflate: promisify(deflate) } as const

/** Name of an encoding that answers can have. */
export type AnswerEncoding = keyof typeof encoders

/** Whether bodies may come in an encoding. */
export function knowsEncoding(encoding: string): boolean {
  return encoding === 'identity' || decoders.has(encoding)
}

/** Undoes a request's Content-Encoding; stops as soon as the body would be larger than `maxBytes`. */
export async function decompress(body: Buffer, encoding: string, maxBytes: number): Promise<Buffer> {
  const decode = decoders.get(encoding)
  if (decode === undefined) return body
  try {
    return await decode(body, { maxOutputLength: maxBytes })
  } catch (error) {
    const isTooLarge = error instanceof RangeError && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE'
    throw isTooLarge ? httpRefusal.tooLarge('the body', maxBytes) : httpRefusal.badBody(`the body is not ${encoding}`)
  }
}

/** Compresses an answer. */
export function compress(body: Buffer, encoding: AnswerEncoding): Promise<Buffer> {
  return encoders[encoding](body, { level: LEVEL })
}

/** The encoding for an answer that a request's Accept-Encoding wants most; undefined when none is asked for. */
export function chooseEncoding(accepted: string | undefined): AnswerEncoding | undefined {
  if (accepted === undefined) return undefined
  const qualities = new Map<string, number>()
  for (const part of accepted.split(',')) {
    const [name = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase())
    const quality = parameters.find((piece) => piece.startsWith('q='))?.slice(2)
    qualities.set(name, quality === undefined ? 1 : Number(quality) || 0)
  }
  const quality = (name: AnswerEncoding) => qualities.get(name) ?? qualities.get('*') ?? 0
  if (quality('gzip') <= 0 && quality('deflate') <= 0) return undefined
  return quality('gzip') >= quality('deflate') ? 'gzip' : 'deflate'
}
