import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { consume, openEmbeddedBus, publishTo, topics } from '@slipway/events'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { createRandom } from '@slipway/stats'
import { expect, test } from 'vitest'

const REQUESTS = 3000
const KILLS = 4

async function startServer(folder: string): Promise<ChildProcess> {
  const script = new URL('./answering-process.fixture.ts', import.meta.url)
  const server = fork(script, [folder, join(folder, 'server')], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  await once(server, 'message')
  return server
}

async function kill(server: ChildProcess): Promise<void> {
  const ended = once(server, 'exit')
  server.kill('SIGKILL')
  await ended
}

const request = toBinary(
  ModelInferRequestSchema,
  create(ModelInferRequestSchema, {
    modelName: 'identity',
    inputs: [{ name: 'input', datatype: 'FP32', shape: [1n, 1n] }],
    rawInputContents: [Buffer.alloc(4)],
  }),
)

test('a server that is killed again and again leaves each request exactly one result', {
  timeout: 120_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-async-kill-'))
  const bus = openEmbeddedBus({ path: join(folder, 'events.db') })
  const results: string[] = []
  await consume(bus, topics.asyncResults, {
    group: 'test',
    handle: async (events) => void results.push(...events.map(({ message }) => message.requestId)),
  })
  const random = createRandom(7)
  let server = await startServer(folder)
  try {
    for (let index = 0; index < REQUESTS; index += 100) {
      const lot = Array.from({ length: 100 }, (_, place) => ({ requestId: `r${index + place}`, request }))
      await publishTo(bus, topics.asyncRequests, lot)
    }
    for (let round = 1; round <= KILLS; round++) {
      // At a random place between the results that are there and all of them.
      const place = results.length + random.integer(300)
      while (results.length < Math.min(place, REQUESTS)) await new Promise((resolve) => setTimeout(resolve, 1))
      await kill(server)
      server = await startServer(folder)
    }
    while (new Set(results).size < REQUESTS) await new Promise((resolve) => setTimeout(resolve, 10))
    await publishTo(bus, topics.asyncRequests, [{ requestId: 'last', request }])
    while (!results.includes('last')) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(results).toHaveLength(REQUESTS + 1)
  } finally {
    await kill(server)
    await bus.close()
    await rm(folder, { recursive: true })
  }
})
