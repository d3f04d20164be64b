/** Confidence intervals for shares and means. */
import { normalQuantile } from './normal.ts'

/** Both ends of an interval. */
export interface Interval {
  readonly low: number
  readonly high: number
}

/** Wilson's score interval of a share, `successes` of `trials`; [0, 1] when nothing was tried. */
export function wilsonInterval(successes: number, trials: number, confidence = 0.95): Interval {
  if (!(trials > 0)) return { low: 0, high: 1 }
  const z = zOf(confidence)
  const share = successes / trials
  const spread = z * Math.sqrt((share * (1 - share)) / trials + (z * z) / (4 * trials * trials))
  const centre = share + (z * z) / (2 * trials)
  const scale = 1 + (z * z) / trials
  return { low: Math.max(0, (centre - spread) / scale), high: Math.min(1, (centre + spread) / scale) }
}

/** Newcombe's hybrid score interval of the difference of two independent shares, a minus b. */
export function shareDifferenceInterval(
  a: { successes: number; trials: number },
  b: { successes: number; trials: number },
  confidence = 0.95,
): Interval {
  if (!(a.trials > 0 && b.trials > 0)) return { low: -1, high: 1 }
  const [p, q] = [a.successes / a.trials, b.successes / b.trials]
  const [inA, inB] = [
    wilsonInterval(a.successes, a.trials, confidence),
    wilsonInterval(b.successes, b.trials, confidence),
  ]
  return {
    low: p - q - Math.hypot(p - inA.low, inB.high - q),
    high: p - q + Math.hypot(inA.high - p, q - inB.low),
  }
}

/** Interval of a mean from its large-sample normal distribution; `variance` is that of one observation. */
export function meanInterval(mean: number, variance: number, count: number, confidence = 0.95): Interval {
  if (!(count > 0)) return { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY }
  const spread = zOf(confidence) * Math.sqrt(variance / count)
  return { low: mean - spread, high: mean + spread }
}

function zOf(confidence: number): number {
  if (!(confidence > 0 && confidence < 1)) throw new RangeError(`confidence must be between 0 and 1, is ${confidence}`)
  return normalQuantile(0.5 + confidence / 2)
}
