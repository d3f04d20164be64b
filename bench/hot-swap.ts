/** Two hundred swaps of the version that answers, while callers keep a server at 70 % of what it can do. */
import { mlpModel, randomLayers } from '@slipway/onnx'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, createClient } from '@slipway/rpc'
import { atMost, type Benchmark, informs, median, type Progress } from './benchmark.ts'
import { measureClosed } from './closed-load.ts'
import { registerVersion } from './inference-servers.ts'
import { benchRequest, FEATURES } from './model.ts'
import type { OpenLoadResult } from './open-load.ts'
import { measureOpen } from './open-measure.ts'
import type { Memory } from './processes.ts'
import { createServices, type RunningProcess } from './system.ts'

const MODEL = 'swapped'
const SWAPS = 200
const SHARE_OF_CAPACITY = 0.7
/** No caller gives up: every failure is the server's. */
const DEADLINE_MS = 3000
const CAPACITY_CALLERS = 64
/** Enough that no pause of the server brings one of them to its limit of calls. */
const SHAPE = { connections: 64, deadlineMs: DEADLINE_MS, warmUpMs: 1000 }
/** Above this calls pile up. */
const SUSTAINED_P99_MS = 30
const MIB = 1024 * 1024

interface Version {
  readonly name: string
  readonly digest: string
}

/** See the top of this file. */
export const hotSwapBenchmark: Benchmark = {
  name: 'hot-swap',
  summary: `${SWAPS} swaps of the version that answers, at 70 % load, against the same load without swaps; --set perSecond=5`,
  defaults: { seconds: 40, rounds: 1 },
  async run({ seconds, rounds, seed, parameters }, progress) {
    const perSecond = Number(parameters.perSecond ?? SWAPS / seconds)
    const services = await createServices()
    try {
      progress(`registering ${SWAPS + 1} versions`)
      const registry = await services.start('registry')
      const versions = await register(registry.address, rounds * SWAPS + 1)
      const server = await services.start('inference', { SLIPWAY_REGISTRY_ADDRESS: registry.address })
      const control = createClient(ModelControlService, { address: server.address })
      await control.loadVersion(versions[0] as Version)
      const measured: Round[] = []
      for (let round = 0; round < rounds; round++) {
        const mine = versions.slice(round * SWAPS, (round + 1) * SWAPS + 1)
        measured.push(await measureRound({ server, control, versions: mine, perSecond, seed: seed + round }, progress))
      }
      return describe(measured)
    } finally {
      await services.stop()
    }
  },
}

interface Round {
  readonly callsPerSecond: number
  readonly steady: readonly OpenLoadResult[]
  readonly swapped: OpenLoadResult
  readonly swapMs: readonly number[]
  readonly before: Memory
  readonly after: Memory
}

interface RoundPlan {
  readonly server: RunningProcess
  readonly control: Client<typeof ModelControlService>
  readonly versions: readonly Version[]
  readonly perSecond: number
  readonly seed: number
}

async function measureRound(
  { server, control, versions, perSecond, seed }: RoundPlan,
  progress: Progress,
): Promise<Round> {
  const { address, process } = server
  const callsPerSecond = SHARE_OF_CAPACITY * (await findCapacity(server, seed))
  const load = { address, request: benchRequest(MODEL), callsPerSecond, ...SHAPE }
  const measureMs = ((versions.length - 1) / perSecond) * 1000
  const steadily = () => measureOpen({ ...load, seed, measureMs: measureMs / 4 })
  // The first swaps start threads and fill caches that later ones use.
  const first = await steadily()
  const before = await process.ask<Memory>('memory')
  progress(`swapping ${versions.length - 1} times at ${Math.round(callsPerSecond)} calls/s`)
  const [swapped, swapMs] = await Promise.all([
    measureOpen({ ...load, seed, measureMs }),
    swap(control, versions, 1000 / perSecond, SHAPE.warmUpMs),
  ])
  const after = await process.ask<Memory>('memory')
  return { callsPerSecond, steady: [first, await steadily()], swapped, swapMs, before, after }
}

/** The largest rate that the server sustains, looked for below what a closed loop gets out of it: calls come in bunches there. */
async function findCapacity(server: RunningProcess, seed: number): Promise<number> {
  const closed = { model: MODEL, callers: CAPACITY_CALLERS, rows: 1, warmUpMs: 1000, measureMs: 2000 }
  const { callsPerSecond: peak } = await measureClosed('peak', server, closed)
  const { address } = server
  let share = 1
  for (; share > 0.2; share *= 0.85) {
    const plan = {
      address,
      request: benchRequest(MODEL),
      callsPerSecond: share * peak,
      ...SHAPE,
      seed,
      deadlineMs: 500,
      measureMs: 2000,
    }
    if ((await measureOpen(plan)).p99Ms <= SUSTAINED_P99_MS) break
  }
  return share * peak
}

/** Loads each version and lets the one before it go, one swap after the other. */
async function swap(
  control: RoundPlan['control'],
  versions: readonly Version[],
  intervalMs: number,
  delayMs: number,
): Promise<readonly number[]> {
  const tookMs: number[] = []
  const begunMs = performance.now() + delayMs
  for (const [index, version] of versions.slice(1).entries()) {
    await sleep(begunMs + index * intervalMs - performance.now())
    const swapBegunMs = performance.now()
    await control.loadVersion(version)
    tookMs.push(performance.now() - swapBegunMs)
    await control.unloadVersion({ name: versions[index]?.name ?? '' })
  }
  return tookMs
}

function describe(rounds: readonly Round[]) {
  const middle = (pick: (round: Round) => number): number => median(rounds.map(pick))
  const steadyP99 = ({ steady }: Round): number => median(steady.map(({ p99Ms }) => p99Ms))
  const failed = rounds.reduce((sum, { swapped }) => sum + swapped.refused + swapped.late, 0)
  const grown = (of: (memory: Memory) => number) => middle(({ before, after }) => (of(after) - of(before)) / MIB)
  return {
    rows: [
      informs(
        'load',
        middle(({ callsPerSecond }) => callsPerSecond),
        'calls/s',
      ),
      informs(
        'a swap, until the new version answers',
        middle(({ swapMs }) => median(swapMs)),
        'ms',
      ),
      atMost('failed calls', failed, 0, ''),
      informs(
        'p50 without swaps',
        middle(({ steady }) => median(steady.map(({ p50Ms }) => p50Ms))),
        'ms',
      ),
      informs(
        'p50 with swaps',
        middle(({ swapped }) => swapped.p50Ms),
        'ms',
      ),
      informs('p99 without swaps', middle(steadyP99), 'ms'),
      informs(
        'p99 with swaps',
        middle(({ swapped }) => swapped.p99Ms),
        'ms',
      ),
      atMost(
        'p99 with swaps against without',
        middle((round) => round.swapped.p99Ms / steadyP99(round)),
        1.5,
        '×',
      ),
      atMost(
        'JavaScript memory grown',
        grown(({ heldBytes }) => heldBytes),
        16,
        'MiB',
      ),
      atMost(
        'resident memory grown',
        grown(({ residentBytes }) => residentBytes),
        64,
        'MiB',
      ),
    ],
    data: { rounds },
  }
}

async function register(address: string, count: number): Promise<readonly Version[]> {
  const registry = createClient(RegistryService, { address })
  await registry.createModel({ model: { name: `models/${MODEL}` } })
  const versions: Version[] = []
  for (let seed = 1; seed <= count; seed++) {
    versions.push(
      await registerVersion(registry, MODEL, mlpModel({ layers: randomLayers([FEATURES, 64, 32, 1], seed) })),
    )
  }
  registry.close()
  return versions
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))
}
