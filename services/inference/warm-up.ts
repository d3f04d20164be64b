import type { Failure } from '@slipway/rpc'
import { consecutive } from './bytes.ts'
import type { OutputView } from './executors/executor.ts'
import type { ServedVersion } from './served-version.ts'
import { elements, tensorBytes } from './signature.ts'
import type { AnswerPart, Work } from './work-queue.ts'

const WARM_UP_RUNS = 3
const MAX_WARM_UP_BYTES = 16 * 1024 * 1024

/**
 * Runs a version a few times on zeros, so that its first caller does not pay for what the runtime does once. A model that
 * refuses zeros is not refused for it: its callers may know better what it takes.
 */
export async function warmUp(version: ServedVersion): Promise<void> {
  const { inputs, outputs, takesRows } = version.signature
  const shapes = inputs.map(({ shape }) => shape.map((size) => (size < 0 ? 1 : size)))
  const sizes = inputs.map(({ datatype }, index) => {
    const bytes = tensorBytes(datatype, shapes[index] ?? [])
    return bytes < 0 ? 4 * elements(shapes[index] ?? []) : bytes
  })
  const total = sizes.reduce((sum, size) => sum + size, 0)
  if (total > MAX_WARM_UP_BYTES) return
  const group = version.group(
    inputs.map(({ name, datatype }, index) => {
      const dims = shapes[index] ?? []
      return { name, datatype, dims: takesRows ? [-1, ...dims.slice(1)] : dims }
    }),
    outputs.map(({ name }) => name),
    takesRows,
  )
  const offsets = consecutive(sizes)
  for (let run = 0; run < WARM_UP_RUNS; run++) {
    const worked = await new Promise<boolean>((resolve) => {
      version.batcher.offer(new WarmUpWork({ bytes: Buffer.alloc(total), offsets, group }, resolve))
    })
    if (!worked) return
    if (run < WARM_UP_RUNS - 1) version.batcher.relearn()
  }
}

class WarmUpWork implements Work {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
  readonly group: Work['group']
  readonly rows = 1
  readonly priority = 0
  readonly deadlineMs = Number.POSITIVE_INFINITY
  readonly arrivedMs = performance.now()
  readonly isCancelled = false
  readonly trace = undefined
  readonly #resolve: (worked: boolean) => void

  constructor(work: Pick<Work, 'bytes' | 'offsets' | 'group'>, resolve: (worked: boolean) => void) {
    this.bytes = work.bytes
    this.offsets = work.offsets
    this.group = work.group
    this.#resolve = resolve
  }

  answer(_outputs: readonly OutputView[], _part: AnswerPart): void {
    this.#resolve(true)
  }

  fail(_failure: Failure): void {
    this.#resolve(false)
  }
}
