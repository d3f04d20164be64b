/**
 * Has a version answer the hybrids of an explanation.
 *
 * 1. Rows go to the executors in batches of at most `batchRows`, at most `batchesInFlight` at once, behind everything that
 *    somebody waits for: what more urgent work may have to wait for is one such batch.
 * 2. A full queue is no failure: a batch that was refused comes back when there is time, the pauses doubling, as long as
 *    the deadline allows.
 * 3. Equal rows among the hybrids that are asked for together run once, where finding them costs less than running them.
 * 4. After the deadline, or when the caller is gone, no further batch is sent.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
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
/** Most values of features in one batch: they are put together in one turn of the event loop. */
const MAX_BATCH_VALUES = 2 ** 15
/** Most values of the background that are numbered, to find equal rows. */
const MAX_NUMBERED_VALUES = 2 ** 14

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
  readonly classes: Uint16Array | undefined
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
    // Hybrids were just made: other work gets its turn before they are looked at.
    await turn()
    const { first, unique } = distinct(sources, hybrids)
    const answers = new Float64Array(unique.length)
    const rowsByCells = Math.max(1, Math.floor(MAX_BATCH_VALUES / sources.players.length))
    const size = served.signature.takesRows ? Math.min(batchRows, rowsByCells) : 1
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

/** Numbers the values of each player among the background rows: equal numbers, equal cells. Undefined when they are too many. */
export function valueClasses(background: RowTable, rows: number, players: readonly Player[]): Uint16Array | undefined {
  if (players.length * rows > MAX_NUMBERED_VALUES) return undefined
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
  if (classes === undefined) {
    const all = Uint32Array.from(backgrounds.keys())
    return { first: all, unique: [...all] }
  }
  const rows = classes.length / players.length
  const known = new Map<string, number>()
  const unique: number[] = []
  const first = new Uint32Array(backgrounds.length)
  const values = new Uint16Array(players.length)
  const key = Buffer.from(values.buffer)
  for (let hybrid = 0; hybrid < backgrounds.length; hybrid++) {
    const row = backgrounds[hybrid] as number
    for (let player = 0; player < players.length; player++) {
      const isExplained = coalitions[hybrid * players.length + player] === 1
      values[player] = isExplained ? FROM_EXPLAINED : (classes[player * rows + row] as number)
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
