import { describe, expect, test } from 'vitest'
import { hash64, hashBucket, hashUnit, murmur128 } from './hash.ts'

const hex = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, '0')).join('')
const bytes = (text: string) => new TextEncoder().encode(text)

describe('hash', () => {
  test.each([
    ['', '00000000000000000000000000000000'],
    ['a', 'a794933c5556b01b5556b01b5556b01b'],
    ['abc', '75cdc6d1a2b006a5a2b006a5a2b006a5'],
    ['flight-delay', '96a8a57212801da69c33fa85d6f8290f'],
    ['The quick brown fox jumps over the lazy dog', '2f1583c3ecee2c675d7bf66ce5e91d2c'],
    ['Zürich – Genève ✈', '6a55c48b50b2470f71e386cb8c0b7d67'],
    ['x'.repeat(1500), 'a6163b7526ec774dbb2473f7a44538fd'],
  ])('MurmurHash3_x86_128 of %s is that of the reference implementation', (text, wanted) => {
    expect(hex(murmur128(bytes(text)))).toBe(wanted)
    expect(hash64(text)).toBe(BigInt(`0x${wanted.slice(0, 16)}`))
  })

  test("SMHasher's verification value comes out: every length from 0 to 255 with its seed", () => {
    const results = new Uint8Array(256 * 16)
    const view = new DataView(results.buffer)
    for (let length = 0; length < 256; length++) {
      const key = Uint8Array.from({ length }, (_, i) => i)
      murmur128(key, 256 - length).forEach((word, i) => {
        view.setUint32(length * 16 + i * 4, word, true)
      })
    }
    expect(murmur128(results)[0]).toBe(0xb3ece62a)
  })

  test('the number forms are the 64 bits: the unit interval by its upper 53, buckets by the remainder', () => {
    for (let i = 0; i < 2000; i++) {
      const hash = hash64(`prediction-${i}`, 'salt')
      expect(hashUnit(`prediction-${i}`, 'salt')).toBe(Number(hash >> 11n) / 2 ** 53)
      expect(hashBucket(`prediction-${i}`, 'salt', 10_000)).toBe(Number(hash % 10_000n))
    }
  })

  test('another salt is another, independent split', () => {
    const both = Array.from({ length: 20_000 }, (_, i) => [hashUnit(`k${i}`, 'a') < 0.5, hashUnit(`k${i}`, 'b') < 0.5])
    const share = both.filter(([a, b]) => a && b).length / both.length
    expect(share).toBeGreaterThan(0.24)
    expect(share).toBeLessThan(0.26)
  })
})
