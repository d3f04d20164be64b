/** `slipway events`: what went over the bus, on the embedded bus of a data folder or on Kafka. */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type DescMessage, fromBinary, toJson } from '@bufbuild/protobuf'
import { timestampMs } from '@bufbuild/protobuf/wkt'
import {
  type EventBus,
  openEmbeddedBus,
  openKafkaBus,
  type ReceivedRecord,
  type StartPosition,
  topics,
} from '@slipway/events'
import { checkAddress } from '../cli-addresses.ts'
import { UsageError, type Words } from '../command.ts'
import type { Command, Invocation } from '../invocation.ts'
import { parseMoment } from '../moment.ts'

const shortNames = new Map<string, { readonly name: string; readonly schema: DescMessage }>(
  Object.values(topics).map((topic) => [topic.name.replace(/^slipway\.(.+)\.v\d+$/, '$1'), topic]),
)

/** Commands about events. */
export const eventCommands: readonly Command[] = [
  {
    name: 'events',
    summary: 'the events of a topic, one a line',
    arguments: [{ name: 'topic', doc: `one of ${[...shortNames.keys()].join(', ')}` }],
    options: {
      from: { value: 'TIME', doc: 'earliest (the default), latest, or a time such as -10m' },
      follow: { doc: 'go on as events come, until Ctrl-C' },
      count: { value: 'N', doc: 'end after so many' },
      'data-dir': { value: 'DIR', doc: 'the folder of the embedded bus; default $SLIPWAY_DATA_DIR or .slipway' },
      kafka: {
        value: 'HOST:PORT',
        doc: 'a broker, instead of the embedded bus; default $SLIPWAY_KAFKA_BROKERS',
        many: true,
      },
    },
    run: readEvents,
  },
]

async function readEvents(invocation: Invocation): Promise<void> {
  const { words, signal } = invocation
  const topic = shortNames.get(words.text('topic').replace(/^slipway\.(.+)\.v\d+$/, '$1'))
  if (topic === undefined) throw new UsageError(`the topics are ${[...shortNames.keys()].join(', ')}`)
  const most = readCount(words.optional('count'))
  const from = readStart(words.optional('from'))
  const bus = openBus(invocation)
  const enough = new AbortController()
  const ended = aborted(AbortSignal.any([signal, enough.signal]))
  let shown = 0
  try {
    const subscribing = bus.subscribe({
      topics: [topic.name],
      // A group of its own: what is read here is missing nowhere else.
      group: `slipway-cli-${randomUUID()}`,
      from,
      handle: async (batch) => {
        for (const record of batch) {
          if (shown >= most) break
          showRecord(invocation, topic.schema, record)
          shown += 1
        }
        if (shown >= most) enough.abort()
      },
    })
    // A broker that is away is waited for, as long as nobody presses Ctrl-C.
    const subscription = await Promise.race([subscribing, ended])
    if (subscription === undefined) return
    await (words.flag('follow') ? ended : Promise.race([subscription.caughtUp(), ended]))
    await subscription.stop()
  } finally {
    await bus.close()
  }
}

function openBus({ words, env }: Invocation): EventBus {
  const given = words.many('kafka')
  const from = given.length > 0 ? '--kafka' : 'SLIPWAY_KAFKA_BROKERS'
  const named = (given.length > 0 ? given : (env.SLIPWAY_KAFKA_BROKERS ?? '').split(','))
    .map((broker) => broker.trim())
    .filter((broker) => broker !== '')
  const brokers = named.map((broker) => checkAddress(from, broker))
  if (brokers.length > 0) return openKafkaBus({ brokers, clientId: 'slipway-cli' })
  const path = join(dataDirectory(words, env), 'events.db')
  if (!existsSync(path))
    throw new UsageError(`there is no ${path}: name the folder with --data-dir, or a broker with --kafka`)
  return openEmbeddedBus({ path })
}

function dataDirectory(words: Words, env: Invocation['env']): string {
  return words.optional('data-dir') ?? env.SLIPWAY_DATA_DIR ?? '.slipway'
}

function readStart(text: string | undefined): StartPosition {
  if (text === undefined || text === 'earliest') return 'earliest'
  if (text === 'latest') return 'latest'
  return { timeMicros: BigInt(timestampMs(parseMoment('--from', text, new Date()))) * 1000n }
}

function readCount(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY
  if (/^[1-9]\d*$/.test(text)) return Number(text)
  throw new UsageError(`--count ${text}: must be a number from 1`)
}

/** A record that does not decode is shown as such: what is on the bus is somebody else's to judge. */
function showRecord({ json, terminal }: Invocation, schema: DescMessage, record: ReceivedRecord): void {
  const time = new Date(Number(record.timeMicros / 1000n)).toISOString()
  const message = decode(schema, record.value)
  const line = json
    ? JSON.stringify({ time, partition: record.partition, offset: String(record.offset), key: record.key, message })
    : `${time}  ${record.key}  ${JSON.stringify(message)}`
  terminal.out(`${line}\n`)
}

function decode(schema: DescMessage, value: Uint8Array) {
  try {
    return toJson(schema, fromBinary(schema, value))
  } catch (error) {
    return { undecodable: Buffer.from(value).toString('base64'), because: String(error) }
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined)
    signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
}
