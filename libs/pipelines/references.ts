/** Names of tensors inside a pipeline, and the order in which its steps can run. */

/** What stands for the caller where the name of a step is expected. */
export const INPUT = 'input'

/** A tensor: which step gives it, and under which name. */
export interface TensorName {
  /** `input` or a step. */
  readonly step: string
  readonly output: string
}

/** Reads `{step}.{output}`; undefined when it is not that. Names of steps have no dot, names of outputs may. */
export function parseTensorName(text: string): TensorName | undefined {
  const dot = text.indexOf('.')
  if (dot <= 0 || dot === text.length - 1) return undefined
  return { step: text.slice(0, dot), output: text.slice(dot + 1) }
}

/** A tensor's name as text. */
export function tensorText({ step, output }: TensorName): string {
  return `${step}.${output}`
}

/** What is left when everything that can run has run is in `stuck`: steps that wait for each other, and those behind them. */
export interface Order {
  readonly order: readonly string[]
  readonly stuck: readonly string[]
}

/** An order in which each step comes after those that it reads from. */
export function orderOf(reads: ReadonlyMap<string, ReadonlySet<string>>): Order {
  const order: string[] = []
  const done = new Set<string>([INPUT])
  const waiting = new Set(reads.keys())
  for (let progress = true; progress; ) {
    progress = false
    for (const step of waiting) {
      // A step that does not exist is another problem than a cycle.
      if (![...(reads.get(step) ?? [])].every((before) => done.has(before) || !reads.has(before))) continue
      waiting.delete(step)
      done.add(step)
      order.push(step)
      progress = true
    }
  }
  return { order, stuck: [...waiting] }
}

/** The steps that the wanted ones need, they themselves included. */
export function neededBy(
  wanted: Iterable<string>,
  reads: ReadonlyMap<string, ReadonlySet<string>>,
): ReadonlySet<string> {
  const needed = new Set<string>()
  const next = [...wanted]
  for (let step = next.pop(); step !== undefined; step = next.pop()) {
    if (needed.has(step)) continue
    needed.add(step)
    next.push(...(reads.get(step) ?? []))
  }
  return needed
}
