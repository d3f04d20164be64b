/**
 * Has a version answer the hybrids of an explanation.
 *
 * 1. Rows go to the executors in batches of at most `batchRows`, at most `batchesInFlight` at once, behind everything that
 *    somebody waits for: what more urgent work may have to wait for is one such batch.
 * 2. A full queue is no failure: a batch that was refused comes back when there is time, the pauses doubling, as long as
 *    the deadline allows.
 * 3. Equal rows among the hybrids that are asked for together run once.
 * 4. After the deadline, or when the caller is gone, no further batch is sent.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, Failure } from '@slipway/rpc'
import type { Hybrids } from '@slipway/stats'
import { predict, type RawTensor } from '../local-predictions.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { BACKGROUND_PRIORITY } from '../work-queue.ts'
import { hybridTensors, type RowOf } from './hybrids.ts'
import type { Player } from './players.ts'
import type { RowTable } from './row-table.ts'
import { readTarget, type Target } from './target.ts'

const FIRST_PAUSE_MS = 10
const MAX_PAUSE_MS = 1000

/** How batches are sent. */
export interface EvaluatorOptions {
  readonly served: Servable
  readonly target: Target
  readonly batchRows: number
  readonly batchesInFlight: number
  /** Epoch milliseconds. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** Waits; for tests. */
  readonly pause?: (milliseconds: number, signal: AbortSignal) => Promise<void>
}

/** What hybrids are put together from. */
export interface HybridSources {
  readonly explained: RowOf
  readonly background: RowTable
  readonly players: readonly Player[]
  /** For each player and background row which value it has there, as `valueClasses` numbers them. */
  readonly classes: Uint16Array
}

/** See the top of this file. */
export class Evaluator {
  readonly #options: EvaluatorOptions
  #evaluations = 0

  constructor(options: EvaluatorOptions) {
    this.#options = options
  }

  /** Rows that the model answered so far. */
  get evaluations(): number {
    return this.#evaluations
  }

  /** Answers to rows in one batch. */
  async answerRows(inputs: readonly RawTensor[], rows: number): Promise<number[]> {
    const { target } = this.#options
    const outputs = await this.#predict(inputs)
    this.#evaluations += rows
    return readTarget(target, outputs, rows)
  }

  /** Answers to hybrids, in their order. */
  async answerHybrids(sources: HybridSources, hybrids: Hybrids): Promise<Float64Array> {
    const { batchRows, batchesInFlight, served } = this.#options
    const { first, unique } = distinct(sources, hybrids)
    const answers = new Float64Array(unique.length)
    const size = served.signature.takesRows ? batchRows : 1
    let next = 0
    const work = async (): Promise<void> => {
      while (next < unique.length) {
        const start = next
        next += size
        const chosen = unique.slice(start, start + size)
        try {
          answers.set(await this.answerRows(hybridTensors({ ...sources, hybrids, chosen }), chosen.length), start)
        } catch (error) {
          next = unique.length
          throw error
        }
      }
    }
    await Promise.all(Array.from({ length: batchesInFlight }, work))
    return Float64Array.from(first, (place) => answers[place] as number)
  }

  async #predict(inputs: readonly RawTensor[]): Promise<readonly RawTensor[]> {
    const { served, target, deadlineMs, signal, pause = wait } = this.#options
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, MAX_PAUSE_MS)) {
      if (signal.aborted) throw signal.reason instanceof Failure ? signal.reason : refusal.cancelled()
      if (Date.now() >= deadlineMs) throw refusal.deadline(served.model)
      try {
        const outputs = [target.tensor]
        return await predict(served, { inputs, outputs, priority: BACKGROUND_PRIORITY, deadlineMs, signal })
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== Code.RESOURCE_EXHAUSTED) throw error
        const delayMs = Math.max(pauseMs, Math.min(error.retryAfterMs ?? 0, MAX_PAUSE_MS))
        if (Date.now() + delayMs >= deadlineMs) throw error
        await pause(delayMs, signal)
      }
    }
  }
}

/** Numbers the values of each player among the background rows: equal numbers, equal cells. */
export function valueClasses(background: RowTable, rows: number, players: readonly Player[]): Uint16Array {
  const classes = new Uint16Array(players.length * rows)
  for (const [index, { cells }] of players.entries()) {
    const known = new Map<string, number>()
    for (let row = 0; row < rows; row++) {
      const value = cells.map(({ input, start, end }) => cellText(background, input, row, start, end)).join(',')
      const number = known.get(value) ?? known.size
      known.set(value, number)
      classes[index * rows + row] = number
    }
  }
  return classes
}

function cellText(table: RowTable, index: number, row: number, start: number, end: number): string {
  const [input, column] = [table.inputs[index], table.columns[index]]
  if (input === undefined || column === undefined) return ''
  const first = row * input.cells + start
  const last = row * input.cells + end
  if (column.kind === 'texts') return column.texts.slice(first, last).join('')
  return column.bytes.toString('latin1', first * input.cellBytes, last * input.cellBytes)
}

const FROM_EXPLAINED = 0xffff

/** The hybrids without repetitions, and for each hybrid its place among them. */
function distinct(
  { players, classes }: HybridSources,
  { backgrounds, coalitions }: Hybrids,
): { readonly first: Uint32Array; readonly unique: readonly number[] } {
  const rows = classes.length / players.length
  const known = new Map<string, number>()
  const unique: number[] = []
  const first = new Uint32Array(backgrounds.length)
  const key = Buffer.alloc(2 * players.length)
  for (let hybrid = 0; hybrid < backgrounds.length; hybrid++) {
    const row = backgrounds[hybrid] as number
    for (let player = 0; player < players.length; player++) {
      const isExplained = coalitions[hybrid * players.length + player] === 1
      key.writeUInt16LE(isExplained ? FROM_EXPLAINED : (classes[player * rows + row] as number), 2 * player)
    }
    const text = key.toString('latin1')
    let place = known.get(text)
    if (place === undefined) {
      place = unique.length
      unique.push(hybrid)
      known.set(text, place)
    }
    first[hybrid] = place
  }
  return { first, unique }
}

async function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined)
}
