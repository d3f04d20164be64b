/** What this replica does for batch jobs, as operators see it. */
import { attribute, meter, metric } from '@slipway/telemetry'
import type { WrittenPart } from './reader-protocol.ts'

/** What became of a part here: `given_up` is one that its job, its partition or its replica moved on from. */
export type PartOutcome = 'done' | 'given_up' | 'retried' | 'failed'

const meters = meter('slipway.inference')
const rows = meters.createCounter(metric.inferenceBatchJobRows)
const duration = meters.createHistogram(metric.inferenceBatchJobPartDuration)

/** A part is over that was begun then, by `performance.now()`. */
export function observePart(outcome: PartOutcome, begunMs: number): void {
  duration.record((performance.now() - begunMs) / 1000, { [attribute.outcome]: outcome })
}

/** The rows of a part have their place in the results. */
export function observeRows({ rows: written, rowsFailed }: WrittenPart): void {
  rows.add(written - rowsFailed, { [attribute.outcome]: 'answered' })
  rows.add(rowsFailed, { [attribute.outcome]: 'failed' })
}
