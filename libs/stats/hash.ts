/**
 * A deterministic 64-bit hash of text, for splits and samples that must come out the same on every machine and in every
 * language: the first 64 bits of MurmurHash3_x86_128 over the UTF-8 bytes, seeded with the first 32 bits of the hash of
 * the salt (seed 0 for an empty salt). Not for secrets. 32-bit arithmetic throughout; BigInt only where asked for.
 */

const C1 = 0x239b961b
const C2 = 0xab0e9789 | 0
const C3 = 0x38b34ae5
const C4 = 0xa1e38b93 | 0

const encoder = new TextEncoder()
const scratch = new Uint8Array(1024)
/** Where `murmur` leaves its result: the four words of the 128 bits. */
const words = new Uint32Array(4)

/** 64 bits of hash as an unsigned integer. */
export function hash64(text: string, salt = ''): bigint {
  hashText(text, salt)
  return (BigInt(words[0] ?? 0) << 32n) | BigInt(words[1] ?? 0)
}

/** The hash as a number from 0 up to, but without, 1, with 53 bits: `hash64 >> 11` over 2^53. */
export function hashUnit(text: string, salt = ''): number {
  hashText(text, salt)
  return ((words[0] ?? 0) * 2 ** 21 + ((words[1] ?? 0) >>> 11)) / 2 ** 53
}

/** The hash modulo `buckets`, which is at most 2^20. */
export function hashBucket(text: string, salt: string, buckets: number): number {
  if (!(buckets >= 1 && buckets <= 2 ** 20)) throw new RangeError(`buckets must be 1 to 2^20, is ${buckets}`)
  hashText(text, salt)
  return (((words[0] ?? 0) % buckets) * (2 ** 32 % buckets) + ((words[1] ?? 0) % buckets)) % buckets
}

/** MurmurHash3_x86_128 of bytes as four unsigned words. */
export function murmur128(bytes: Uint8Array, seed = 0): [number, number, number, number] {
  murmur(bytes, bytes.length, seed)
  return [words[0] ?? 0, words[1] ?? 0, words[2] ?? 0, words[3] ?? 0]
}

function hashText(text: string, salt: string): void {
  let seed = 0
  if (salt !== '') {
    murmurText(salt, 0)
    seed = (words[0] ?? 0) | 0
  }
  murmurText(text, seed)
}

function murmurText(text: string, seed: number): void {
  if (text.length * 3 <= scratch.length) {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 127) {
        murmur(scratch, encoder.encodeInto(text, scratch).written, seed)
        return
      }
      scratch[i] = unit
    }
    murmur(scratch, text.length, seed)
  } else {
    const bytes = encoder.encode(text)
    murmur(bytes, bytes.length, seed)
  }
}

function murmur(bytes: Uint8Array, length: number, seed: number): void {
  let h1 = seed
  let h2 = seed
  let h3 = seed
  let h4 = seed
  const tail = length & ~15
  for (let i = 0; i < tail; i += 16) {
    h1 ^= Math.imul(rotate(Math.imul(word(bytes, i), C1), 15), C2)
    h1 = (Math.imul((rotate(h1, 19) + h2) | 0, 5) + 0x561ccd1b) | 0
    h2 ^= Math.imul(rotate(Math.imul(word(bytes, i + 4), C2), 16), C3)
    h2 = (Math.imul((rotate(h2, 17) + h3) | 0, 5) + 0x0bcaa747) | 0
    h3 ^= Math.imul(rotate(Math.imul(word(bytes, i + 8), C3), 17), C4)
    h3 = (Math.imul((rotate(h3, 15) + h4) | 0, 5) + 0x96cd1c35) | 0
    h4 ^= Math.imul(rotate(Math.imul(word(bytes, i + 12), C4), 18), C1)
    h4 = (Math.imul((rotate(h4, 13) + h1) | 0, 5) + 0x32ac3b17) | 0
  }
  if (length > tail + 12) h4 ^= Math.imul(rotate(Math.imul(partialWord(bytes, tail + 12, length), C4), 18), C1)
  if (length > tail + 8) h3 ^= Math.imul(rotate(Math.imul(partialWord(bytes, tail + 8, length), C3), 17), C4)
  if (length > tail + 4) h2 ^= Math.imul(rotate(Math.imul(partialWord(bytes, tail + 4, length), C2), 16), C3)
  if (length > tail) h1 ^= Math.imul(rotate(Math.imul(partialWord(bytes, tail, length), C1), 15), C2)
  finish(h1 ^ length, h2 ^ length, h3 ^ length, h4 ^ length)
}

function finish(a: number, b: number, c: number, d: number): void {
  const h1 = (a + b + c + d) | 0
  const m1 = mix(h1)
  const m2 = mix((b + h1) | 0)
  const m3 = mix((c + h1) | 0)
  const m4 = mix((d + h1) | 0)
  const sum = (m1 + m2 + m3 + m4) | 0
  words[0] = sum
  words[1] = m2 + sum
  words[2] = m3 + sum
  words[3] = m4 + sum
}

function mix(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by))
}

function word(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24) | 0
  )
}

function partialWord(bytes: Uint8Array, at: number, length: number): number {
  let value = 0
  for (let i = Math.min(at + 4, length) - 1; i >= at; i--) value = (value << 8) | (bytes[i] ?? 0)
  return value
}
