/**
 * A process to be killed: `child.fixture.ts <what> <place> <topic> [group]`, where the place is a path or
 * `kafka:host:port`. Each line that it writes is the number of a record that is acknowledged, or handled.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { EventBus } from './bus.ts'
import { openEmbeddedBus } from './embedded.ts'
import { openKafkaBus } from './kafka.ts'
import { numberOf, recordOf } from './record.fixture.ts'
import { openSpool } from './spool.ts'

const [what, place = '', topic = '', group = ''] = process.argv.slice(2)

function say(number: number): void {
  process.stdout.write(`${number}\n`)
}

function open(): EventBus {
  if (!place.startsWith('kafka:')) return openEmbeddedBus({ path: place, leaseMs: 1000 })
  return openKafkaBus({ brokers: [place.slice('kafka:'.length)], clientId: 'slipway-child', sessionTimeoutMs: 1000 })
}

async function publish(): Promise<void> {
  const bus = open()
  for (let number = 0; ; number += 1) {
    await bus.publish([recordOf(topic, `key-${number % 5}`, number)])
    say(number)
  }
}

/** Handles until SIGTERM, then closes its bus: the process ends when that leaves nothing to wait for. */
async function handle(): Promise<void> {
  const bus = open()
  process.once('SIGTERM', () => void bus.close())
  await bus.subscribe({
    topics: [topic],
    group,
    maxBatchRecords: 3,
    handle: async (batch) => {
      for (const record of batch) say(numberOf(record))
      await sleep(5)
    },
  })
}

/** Spools while the bus is away for good. */
async function spool(): Promise<void> {
  const away: EventBus = {
    publish: () => Promise.reject(new Error('away')),
    subscribe: () => Promise.reject(new Error('away')),
    close: () => Promise.resolve(),
  }
  const producer = openSpool({ bus: away, directory: place, maxBytes: 1e8, maxBufferedRecords: 1e5 })
  for (let number = 0; ; number += 10) {
    for (let each = number; each < number + 10; each += 1) producer.offer(recordOf(topic, `key-${each % 5}`, each))
    await producer.flush()
    for (let each = number; each < number + 10; each += 1) say(each)
  }
}

if (what === 'publish') await publish()
else if (what === 'handle') await handle()
else if (what === 'spool') await spool()
else throw new Error(`unknown: ${what}`)
