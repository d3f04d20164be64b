/** Rows on their way in: each judged by itself, the good ones kept in one transaction a view. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FeatureRow } from '@slipway/proto/slipway/features/v1/value'
import { countWritten } from './observer.ts'
import type { OnlineStore, WriteOutcome } from './online-store/online-store.ts'
import { type CheckedRow, checkRow, type RowProblem } from './row-check.ts'
import type { Clock } from './time.ts'
import type { ViewVersion } from './view.ts'

/** What became of a row. */
export type RowResult = { readonly outcome: Exclude<WriteOutcome, 'conflict'> } | { readonly problem: RowProblem }

/** Rows written between two turns of the event loop. */
const rowsPerTurn = 500

/** Writes rows. */
export class Writes {
  readonly #store: OnlineStore
  readonly #view: (id: string) => ViewVersion | undefined
  readonly #clock: Clock

  constructor(options: { store: OnlineStore; view: (id: string) => ViewVersion | undefined; clock: Clock }) {
    this.#store = options.store
    this.#view = options.view
    this.#clock = options.clock
  }

  /** Gives one result a row, in their order. What is answered without a problem is durable. */
  async write(rows: readonly FeatureRow[]): Promise<RowResult[]> {
    const results: RowResult[] = []
    for (let at = 0; at < rows.length; at += rowsPerTurn) {
      results.push(...(await this.#writeSome(rows.slice(at, at + rowsPerTurn))))
      await nextTurn()
    }
    countWritten(results.map((result) => ('outcome' in result ? result.outcome : 'rejected')))
    return results
  }

  async #writeSome(rows: readonly FeatureRow[]): Promise<RowResult[]> {
    const nowMicros = this.#clock()
    const results = new Array<RowResult>(rows.length)
    const good = new Map<number, { place: number; row: CheckedRow }[]>()
    rows.forEach((message, place) => {
      const view = this.#view(message.featureView.slice('featureViews/'.length))
      const checked = view === undefined ? unknownView(message) : checkRow(view, message, nowMicros)
      if ('problem' in checked) results[place] = checked
      else if (view !== undefined) {
        const group = good.get(view.tableId) ?? []
        group.push({ place, row: checked.row })
        good.set(view.tableId, group)
      }
    })
    for (const [tableId, group] of good) {
      const kept = group.map(({ row }) => row)
      const outcomes = await this.#store.write(tableId, kept, nowMicros)
      group.forEach(({ place }, index) => {
        results[place] = resultOf(outcomes[index])
      })
    }
    return results
  }
}

function unknownView(message: FeatureRow): { readonly problem: RowProblem } {
  const description = `there is no ${message.featureView || 'view without a name'}`
  return { problem: { field: 'feature_view', code: 'UNKNOWN_VIEW', description } }
}

function resultOf(outcome: WriteOutcome | undefined): RowResult {
  if (outcome !== undefined && outcome !== 'conflict') return { outcome }
  const description = 'another row has this event time, created time and sequence, with other values'
  return { problem: { field: 'sequence', code: 'CONFLICT', description } }
}
