import { createRandom, emptyCounts, gammaSf, type Random, twoSampleLikelihoodRatio } from '@slipway/stats'
import { describe, expect, test } from 'vitest'
import { CALIBRATION_WINDOWS_MIN, calibrate, nullTail } from './calibration.ts'

const CELLS = 10

/** Counts of a day: a normal with a mean of its own, over ten cells. */
function day(random: Random, mood: number, rows: number): number[] {
  const counts = emptyCounts(CELLS)
  for (let row = 0; row < rows; row++) {
    const value = mood + random.normal()
    const cell = Math.max(0, Math.min(CELLS - 1, Math.floor(value * 1.8 + CELLS / 2)))
    counts[cell] = (counts[cell] ?? 0) + 1
  }
  return counts
}

const sum = (windows: readonly (readonly number[])[]) =>
  windows.reduce<number[]>(
    (total, window) => total.map((count, cell) => count + (window[cell] ?? 0)),
    emptyCounts(CELLS),
  )

/** Share of new days that alarm at `level`, against references of 56 days whose days differ by `spread`. */
function alarmRate(spread: number, level: number, calibrated: boolean): number {
  const random = createRandom(`alarms ${spread}`)
  let [alarms, looks] = [0, 0]
  for (let run = 0; run < 12; run++) {
    const reference = Array.from({ length: 56 }, () => day(random, spread * random.normal(), 300))
    const calibration = calibrated ? calibrate(reference) : undefined
    for (let live = 0; live < 40; live++) {
      const window = day(random, spread * random.normal(), 500)
      const { statistic, degreesOfFreedom, effectiveSize } = twoSampleLikelihoodRatio(window, sum(reference))
      const { shape, scale } = nullTail(calibration, degreesOfFreedom, effectiveSize, 0.1)
      alarms += gammaSf(statistic, shape, scale) < level ? 1 : 0
      looks += 1
    }
  }
  return alarms / looks
}

describe('calibration', () => {
  test('days that differ like draws alarm at their level with it as without', () => {
    expect(alarmRate(0, 0.05, true)).toBeLessThan(0.07)
    expect(alarmRate(0, 0.05, false)).toBeLessThan(0.08)
  })

  test('days with a mood keep the level only when calibrated: taken for draws, most of them alarm', () => {
    expect(alarmRate(0.3, 0.01, true)).toBeLessThan(0.02)
    expect(alarmRate(0.3, 0.01, false)).toBeGreaterThan(0.5)
  })

  test('what moves slowly is expected to move on, for one length of the reference', () => {
    const random = createRandom('walk')
    let level = 0
    const walk = Array.from({ length: 56 }, () => {
      level += 0.06 * random.normal()
      return day(random, level, 300)
    })
    const calibration = calibrate(walk)
    const meanAt = (age: number) => {
      const { shape, scale } = nullTail(calibration, 9, 400, age)
      return shape * scale
    }
    expect(meanAt(0.5)).toBeGreaterThan(1.5 * meanAt(0))
    expect(meanAt(3)).toBe(meanAt(1))
    const steady = calibrate(Array.from({ length: 56 }, () => day(random, 0.3 * random.normal(), 300)))
    expect(steady?.trend).toBeLessThan(0.3 * (calibration?.trend ?? 0))
  })

  test('windows cut off by the period are left out, and below 30 there is no calibration', () => {
    const random = createRandom('cut')
    const days = Array.from({ length: CALIBRATION_WINDOWS_MIN }, () => day(random, 0, 200))
    expect(calibrate([...days, day(random, 0, 20)])?.windows).toBe(CALIBRATION_WINDOWS_MIN)
    expect(calibrate([...days.slice(1), day(random, 0, 20)])).toBeUndefined()
    expect(nullTail(undefined, 9, 1000, 0)).toEqual({ shape: 4.5, scale: 2 })
  })
})
