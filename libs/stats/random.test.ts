import { describe, expect, test } from 'vitest'
import { createRandom, randomFrom } from './random.ts'

describe('random', () => {
  test("the sequence from state 1, 2, 3, 4 is that of xoshiro128**'s authors", () => {
    const random = randomFrom([1, 2, 3, 4])
    const wanted = [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804]
    expect(wanted.map(() => random.uint32())).toEqual(wanted)
  })

  test('equal seeds give equal sequences, others do not', () => {
    const draw = (seed: number | string) => Array.from({ length: 5 }, createRandom(seed).uint32)
    expect(draw(7)).toEqual(draw(7))
    expect(draw(7)).not.toEqual(draw(8))
  })

  test('moments of uniform and normal are right, integers cover their range', () => {
    const random = createRandom('moments')
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    const normals = Array.from({ length: 50_000 }, random.normal)
    expect(mean(Array.from({ length: 50_000 }, random.uniform))).toBeCloseTo(0.5, 2)
    expect(mean(normals)).toBeCloseTo(0, 1)
    expect(mean(normals.map((z) => z * z))).toBeCloseTo(1, 1)
    expect(new Set(Array.from({ length: 200 }, () => random.integer(6)))).toEqual(new Set([0, 1, 2, 3, 4, 5]))
  })
})
