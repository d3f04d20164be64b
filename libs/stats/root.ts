/**
 * Finds where a continuous function changes sign between `low` and `high`, by Chandrupatla's method: inverse quadratic
 * interpolation where it is safe, bisection elsewhere. Throws when both ends have the same sign.
 */
export function findRoot(f: (x: number) => number, low: number, high: number, relativeTolerance = 1e-15): number {
  let [a, b] = [low, high]
  let [fa, fb] = [f(a), f(b)]
  if (fa === 0) return a
  if (fb === 0) return b
  if (fa > 0 === fb > 0 || Number.isNaN(fa + fb)) throw new RangeError(`no change of sign between ${low} and ${high}`)
  let [c, fc] = [a, fa]
  let t = 0.5
  for (let iteration = 0; iteration < 200; iteration++) {
    const x = a + t * (b - a)
    const fx = f(x)
    if (fx > 0 === fa > 0) {
      ;[c, fc] = [a, fa]
    } else {
      ;[c, b, fc, fb] = [b, a, fb, fa]
    }
    ;[a, fa] = [x, fx]
    const best = Math.abs(fa) < Math.abs(fb) ? a : b
    const limit = (2 * relativeTolerance * Math.abs(best) + Number.MIN_VALUE) / Math.abs(b - a)
    if (limit > 0.5 || fx === 0) return best
    t = Math.min(Math.max(nextStep(a, b, c, fa, fb, fc), limit), 1 - limit)
  }
  return a
}

function nextStep(a: number, b: number, c: number, fa: number, fb: number, fc: number): number {
  const xi = (a - b) / (c - b)
  const phi = (fa - fb) / (fc - fb)
  if (phi * phi >= xi || (1 - phi) * (1 - phi) >= 1 - xi) return 0.5
  return (fa / (fb - fa)) * (fc / (fb - fc)) + ((c - a) / (b - a)) * (fa / (fc - fa)) * (fb / (fc - fb))
}
