import { expect, test } from 'vitest'
import { dayMicros } from './calendar.ts'
import { type ReplayPorts, startReplay } from './replay.ts'
import type { Flight } from './upstream.ts'

const flight = (id: number): Flight => ({
  id: String(id),
  timeMicros: (BigInt(id) * dayMicros) / 100n,
  origin: 'ATL',
  destination: 'JFK',
  route: 'ATL-JFK',
  slot: 'ATL-JFK@17',
  departureHour: 17,
  distanceMiles: 760,
  late: 0,
  knownMicros: (BigInt(id) * dayMicros) / 100n + 7_200_000_000n,
})
const upstream = {
  flights: async ({ fromMicros, toMicros }: { fromMicros: bigint; toMicros: bigint }) =>
    Array.from({ length: 1000 }, (_, id) => flight(id)).filter(
      ({ timeMicros }) => timeMicros >= fromMicros && timeMicros < toMicros,
    ),
}

async function play(ports: Partial<ReplayPorts>, untilMicros: bigint) {
  const replay = startReplay({
    upstream,
    ports: { publishFeatures: async () => {}, predict: async () => {}, reportOutcomes: async () => {}, ...ports },
    fromMicros: 0n,
    perDay: 100,
    seed: 1,
    callers: 4,
    secondsPerDay: 0,
    onProgress: () => {},
  })
  await replay.reached(untilMicros)
  await replay.stop()
  return replay
}

test('every flight is offered once and its outcome is reported once, after it is known', async () => {
  const predicted: string[] = []
  const reported: string[] = []
  let publishedTo = 0n
  const replay = await play(
    {
      publishFeatures: async (from, to) => {
        expect(from).toBe(publishedTo)
        publishedTo = to
      },
      predict: async ({ id }) => void predicted.push(id),
      reportOutcomes: async (flights) => void reported.push(...flights.map(({ id }) => id)),
    },
    2n * dayMicros,
  )
  const { offered, answered, failed, labelsSent } = replay.counts()
  expect({ failed, labelsSent }).toEqual({ failed: 0, labelsSent: offered })
  expect(answered).toBe(offered)
  expect(offered).toBeGreaterThanOrEqual(200)
  expect(new Set(predicted).size).toBe(offered)
  expect(reported.toSorted()).toEqual(predicted.toSorted())
})

test('a prediction that is given up counts as failed and has no outcome', async () => {
  const reported: string[] = []
  const replay = await play(
    {
      predict: async ({ id }) => {
        if (id === '7') throw new Error('given up')
      },
      reportOutcomes: async (flights) => void reported.push(...flights.map(({ id }) => id)),
    },
    dayMicros,
  )
  expect(replay.counts().failed).toBe(1)
  expect(reported).not.toContain('7')
})

test('a broken replay rejects whoever waits for it', async () => {
  const publishFeatures = () => Promise.reject(new Error('feature store is gone'))
  await expect(play({ publishFeatures }, dayMicros)).rejects.toThrow('feature store is gone')
})
