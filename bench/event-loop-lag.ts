/** A server that runs a model of half a second all the time: what its event loop and its other callers notice of it. */
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { createClient } from '@slipway/rpc'
import type { EventLoopDelay } from '@slipway/telemetry'
import { atMost, type Benchmark, informs, median } from './benchmark.ts'
import { measureClosed } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import type { RunningProcess } from './system.ts'

const MODEL = 'slow'
const RUN_MS = 500
/** Of one request: as many as the load generator sends at once. */
const ROWS = 200
const CALLERS = 4
const QUESTION_INTERVAL_MS = 10

/** See the top of this file. */
export const eventLoopLagBenchmark: Benchmark = {
  name: 'event-loop-lag',
  summary:
    'p99 delay of the event loop while a model of 500 ms a run runs, and what a caller of ServerReady waits; against the idle server',
  defaults: { seconds: 8, rounds: 3 },
  async run({ seconds, rounds }, progress) {
    progress('making a model of 2.5 ms a row')
    const { model, cost } = await calibrate({ perRunMs: 0, perRowMs: RUN_MS / ROWS })
    const { servers, stop } = await startInference(MODEL, model, {
      server: { SLIPWAY_INFERENCE_MAX_BATCH_ROWS: String(ROWS), SLIPWAY_INFERENCE_MAX_QUEUE_WAIT: '60s' },
    })
    const { server } = servers
    const load = { model: MODEL, callers: CALLERS, rows: ROWS, warmUpMs: RUN_MS, measureMs: seconds * 1000 }
    const idle: Sample[] = []
    const busy: Sample[] = []
    const runs: number[] = []
    try {
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        idle.push(await watch(server, () => sleep(2000)))
        busy.push(
          await watch(server, async () => {
            const { callsPerSecond } = await measureClosed('slow', server, load)
            runs.push(callsPerSecond)
          }),
        )
      }
    } finally {
      await stop()
    }
    const middle = (samples: readonly Sample[], pick: (sample: Sample) => number) => median(samples.map(pick))
    const failed = busy.reduce((sum, sample) => sum + sample.failed, 0)
    return {
      rows: [
        informs('a run', cost.perRowMs * ROWS, 'ms'),
        informs('runs', median(runs), '/s'),
        informs(
          'p99 delay of the event loop, idle',
          middle(idle, ({ delay }) => delay.p99 * 1000),
          'ms',
        ),
        atMost(
          'p99 delay of the event loop, busy',
          middle(busy, ({ delay }) => delay.p99 * 1000),
          10,
          'ms',
        ),
        informs(
          'largest delay of the event loop, busy',
          middle(busy, ({ delay }) => delay.max * 1000),
          'ms',
        ),
        informs(
          'p99 of ServerReady, idle',
          middle(idle, ({ p99Ms }) => p99Ms),
          'ms',
        ),
        informs(
          'p99 of ServerReady, busy',
          middle(busy, ({ p99Ms }) => p99Ms),
          'ms',
        ),
        atMost('ServerReady that failed or said no, busy', failed, 0, ''),
      ],
      data: { idle, busy },
    }
  },
}

interface Sample {
  readonly delay: EventLoopDelay
  readonly p99Ms: number
  readonly failed: number
}

/** Asks a server whether it is ready, all the time while something goes on, and how late its event loop was meanwhile. */
async function watch({ process, address }: RunningProcess, meanwhile: () => Promise<void>): Promise<Sample> {
  const client = createClient(GRPCInferenceService, { address })
  const latenciesMs: number[] = []
  let failed = 0
  let isOver = false
  await process.ask('event-loop')
  const asking = (async () => {
    while (!isOver) {
      const begunMs = performance.now()
      const isReady = await client.serverReady({}).then(
        ({ ready }) => ready,
        () => false,
      )
      latenciesMs.push(performance.now() - begunMs)
      if (!isReady) failed++
      await sleep(QUESTION_INTERVAL_MS)
    }
  })()
  await meanwhile()
  isOver = true
  await asking
  const delay = await process.ask<EventLoopDelay>('event-loop')
  client.close()
  const sorted = latenciesMs.sort((left, right) => left - right)
  return { delay, failed, p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN }
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}
