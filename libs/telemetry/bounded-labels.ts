import type { Attributes } from '@opentelemetry/api'

/**
 * Labels of things that come and go, of no more than `max` of them at a time: what comes beyond is measured under one
 * label that stands for all others, until some that have labels of their own are gone.
 */
export class BoundedLabels {
  readonly max: number
  readonly #other: Attributes
  readonly #known = new Map<string, Attributes>()

  constructor(max: number, other: Attributes) {
    this.max = max
    this.#other = other
  }

  /** The labels of something: its own as long as there is room. The same object each time, so that it costs nothing. */
  of(key: string, labels: () => Attributes): Attributes {
    const known = this.#known.get(key)
    if (known !== undefined) return known
    if (this.#known.size >= this.max) return this.#other
    const own = labels()
    this.#known.set(key, own)
    return own
  }

  /** Something is gone: its place is free. */
  release(key: string): void {
    this.#known.delete(key)
  }
}
