/** A seeded generator of random numbers: xoshiro128** (Blackman and Vigna), the same on every machine. */
import { murmur128 } from './hash.ts'

/** Random numbers from one seed. */
export interface Random {
  /** 32 random bits. */
  uint32(): number
  /** Uniform from 0 up to, but without, 1, with 53 bits. */
  uniform(): number
  /** Uniform integer from 0 up to, but without, `bound` (1 to 2^32), without bias. */
  integer(bound: number): number
  /** Standard normal. */
  normal(): number
  /** Shuffles in place (Fisher and Yates). */
  shuffle<T>(values: T[]): T[]
}

/** Creates a generator from a number or text; equal seeds give equal sequences. */
export function createRandom(seed: number | string): Random {
  return randomFrom(murmur128(new TextEncoder().encode(`slipway.random:${seed}`)))
}

/** Creates a generator from its whole state of four 32-bit words, not all zero. */
export function randomFrom(state: readonly [number, number, number, number]): Random {
  let [a, b, c, d] = state
  const uint32 = () => {
    const x = Math.imul(b, 5)
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = (d << 11) | (d >>> 21)
    return result
  }
  const uniform = () => ((uint32() >>> 5) * 2 ** 26 + (uint32() >>> 6)) / 2 ** 53
  const integer = (bound: number) => {
    if (!(bound >= 1 && bound <= 2 ** 32)) throw new RangeError(`bound must be 1 to 2^32, is ${bound}`)
    const fair = 2 ** 32 - (2 ** 32 % bound)
    let value = uint32()
    while (value >= fair) value = uint32()
    return value % bound
  }
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())
  const shuffle = <T>(values: T[]) => {
    for (let i = values.length - 1; i > 0; i--) {
      const j = integer(i + 1)
      const [x, y] = [values[i], values[j]]
      values[i] = y as T
      values[j] = x as T
    }
    return values
  }
  return { uint32, uniform, integer, normal, shuffle }
}
