/** What a benchmark is: something to run by name, and figures with the targets that they are held to. */

/** How a benchmark is run. */
export interface BenchmarkOptions {
  /** Measured time of one measurement. */
  readonly seconds: number
  /** Measurements of each kind, in turn; what is reported are their medians. */
  readonly rounds: number
  /** For everything random in it. */
  readonly seed: number
  /** What else was said on the command line, `--set name=value`. */
  readonly parameters: Readonly<Record<string, string>>
}

/** One figure of a report. */
export interface Figure {
  readonly what: string
  readonly value: number
  /** Of the value: `ms`, `rows/s`, `×`; empty for a count. */
  readonly unit: string
  /** What the figure should be, as in `≤ 0.3`; undefined for one that only informs. */
  readonly target?: string
  /** Whether it is so; undefined without a target. */
  readonly holds?: boolean
}

/** What a benchmark found. */
export interface Report {
  readonly rows: readonly Figure[]
  /** Lines for those who want to know more, the head first. */
  readonly details?: readonly (readonly string[])[]
  /** More for `--json`. */
  readonly data?: unknown
}

/** Hears what is being done. */
export type Progress = (text: string) => void

/** One benchmark. */
export interface Benchmark {
  readonly name: string
  /** What it measures against what, in a sentence. */
  readonly summary: string
  readonly defaults: Pick<BenchmarkOptions, 'seconds' | 'rounds'>
  run(options: BenchmarkOptions, progress: Progress): Promise<Report>
}

/** A figure that should be no smaller than its target. */
export function atLeast(what: string, value: number, target: number, unit: string): Figure {
  return { what, value, unit, target: `≥ ${target}`, holds: value >= target }
}

/** A figure that should be no larger than its target. */
export function atMost(what: string, value: number, target: number, unit: string): Figure {
  return { what, value, unit, target: `≤ ${target}`, holds: value <= target }
}

/** A figure that only informs. */
export function informs(what: string, value: number, unit: string): Figure {
  return { what, value, unit }
}

/** The middle one; the mean of the two middle ones where there are two; NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  const upper = sorted[sorted.length >> 1] ?? Number.NaN
  const lower = sorted[(sorted.length - 1) >> 1] ?? Number.NaN
  return (lower + upper) / 2
}
