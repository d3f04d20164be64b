/**
 * 20,000 calls a second whose deadlines pass before they can be answered. The server has to come out of it as it went in:
 * alive, with the memory that it had, and at full speed within a second: that of another server of the same kind that the storm has
 * passed by, the two measured in turn, because a machine that others use changes its own speed within seconds.
 */
import { atLeast, atMost, type Benchmark, informs } from './benchmark.ts'
import { detailsOf, failures, measureClosed, medianRatio } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import type { Row } from './measure.ts'
import { benchRequest } from './model.ts'
import { countsOf, measureOpen } from './open-measure.ts'
import type { Memory } from './processes.ts'

const MODEL = 'storm'
const CALLS_PER_SECOND = 20_000
const DEADLINE_MS = 20
const RECOVERY_MS = 1000
/** Before the storm that counts, a short one: what a server takes once is not what it loses. */
const FIRST_STORM_MS = 10_000
const ALLOWED_GROWTH = 1.1
/** Turns of a second that the two servers take after the storm, the first a second after it. */
const TURNS = 5
/** Full speed is that of the other server, but for what a machine's speed varies by. */
const FULL = 0.9

/** See the top of this file. */
export const deadlineStormBenchmark: Benchmark = {
  name: 'deadline-storm',
  summary: '20,000 expiring deadlines a second: no crash, memory as before, full speed within a second',
  defaults: { seconds: 30, rounds: 1 },
  async run({ seconds, seed, parameters }, progress) {
    const callsPerSecond = Number(parameters.rate ?? CALLS_PER_SECOND)
    progress('making a model of 5 ms a run')
    const { model, cost } = await calibrate({ perRunMs: 5, perRowMs: 0.005 })
    // A hundredth of the calls is what it can answer: batches would answer all of them.
    const settings = { SLIPWAY_INFERENCE_EXECUTORS: '1', SLIPWAY_INFERENCE_MAX_BATCH_ROWS: '1' }
    const { servers, stop } = await startInference(MODEL, model, { server: settings, spared: settings })
    const { server, spared } = servers
    const storm = { address: server.address, request: benchRequest(MODEL), callsPerSecond, deadlineMs: DEADLINE_MS }
    const calm = { model: MODEL, callers: 4, rows: 1, warmUpMs: 100, measureMs: 1000 }
    try {
      progress('before the storm')
      await measureOpen({ ...storm, seed, warmUpMs: 0, measureMs: FIRST_STORM_MS })
      for (const each of [server, spared]) await measureClosed('before', each, { ...calm, warmUpMs: RECOVERY_MS })
      const memoryBefore = await server.process.ask<Memory>('memory')
      progress(`a storm of ${seconds} s`)
      const result = await measureOpen({ ...storm, seed: seed + 1, warmUpMs: 0, measureMs: seconds * 1000 })
      progress('after the storm')
      const after: Row[][] = []
      for (let turn = 0; turn < TURNS; turn++) {
        const warmUpMs = turn === 0 ? RECOVERY_MS : calm.warmUpMs
        const stormed = await measureClosed('after the storm', server, { ...calm, warmUpMs })
        after.push([stormed, await measureClosed('spared', spared, calm)])
      }
      const memoryAfter = await server.process.ask<Memory>('memory')
      const counts = await countsOf(server.address)
      const late = Number(counts.executedAfterDeadline)
      const speeds = after.map(([one, other]) => [speedOf(one), speedOf(other)] as const)
      const growth = (pick: (memory: Memory) => number): number => pick(memoryAfter) / pick(memoryBefore)
      return {
        rows: [
          informs('a run', cost.perRunMs + cost.perRowMs, 'ms'),
          informs('calls of the storm', result.calls, ''),
          informs('calls a second', result.calls / result.seconds, 'calls/s'),
          informs('answered in time', result.good, ''),
          informs('refused before their deadline', result.refused, ''),
          informs('given up at their deadline', result.late, ''),
          atMost(
            'memory held, of before',
            growth(({ heldBytes }) => heldBytes),
            ALLOWED_GROWTH,
            '×',
          ),
          atMost(
            'memory resident, of before',
            growth(({ residentBytes }) => residentBytes),
            ALLOWED_GROWTH,
            '×',
          ),
          atLeast('speed from one second after it on, of the spared server', medianRatio(speeds), FULL, '×'),
          { ...informs('runs that began after a deadline', late, ''), target: '0', holds: late === 0 },
          failures(after),
        ],
        details: detailsOf(after),
        data: { result, after, memoryBefore, memoryAfter },
      }
    } finally {
      await stop()
    }
  },
}

function speedOf(row: Row | undefined): number {
  return row?.callsPerSecond ?? Number.NaN
}
