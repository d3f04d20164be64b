/** The promises of `OnlineStore`, held against an adapter. */
import type { Failure } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { packValues } from '../packing.ts'
import type { CheckedRow } from '../row-check.ts'
import type { OnlineStore, StoredRow } from './online-store.ts'

/** A store under test. */
export interface OnlineStoreUnderTest {
  readonly store: OnlineStore
  /** Loses everything that is not durable and opens the store again. */
  reopen(): Promise<OnlineStore>
  /** Rows that the journal has. */
  journalled(): number
  close(): Promise<void>
}

const now = 1_000n
const key = packValues(['SEA'])
const other = packValues(['SFO'])
const table = 7

const row = (event: bigint, value: bigint | undefined, change: Partial<CheckedRow> = {}): CheckedRow => ({
  key,
  eventMicros: event,
  createdMicros: event,
  sequence: 0n,
  deleted: value === undefined,
  payload: value === undefined ? new Uint8Array() : packValues([value]),
  ...change,
})

/** Runs the contract. */
export function describeOnlineStore(name: string, open: () => Promise<OnlineStoreUnderTest>): void {
  describe(`the online store on ${name}`, () => {
    let under: OnlineStoreUnderTest
    beforeEach(async () => {
      under = await open()
    })
    afterEach(() => under.close())

    const write = async (...rows: CheckedRow[]) => await under.store.write(table, rows, now)
    const readAt = async (time: bigint, visibility: 'known' | 'event' = 'known', store = under.store) => {
      const [found] = await store.read([{ tableId: table, key }], time, visibility)
      return found
    }
    const short = (found: StoredRow | undefined) => found && [found.eventMicros, found.createdMicros, found.sequence]

    test('1: what was acknowledged is there after the process is gone, online and in the journal', async () => {
      await write(row(1n, 1n), row(2n, 2n))
      const store = await under.reopen()
      expect(short(await readAt(9n, 'known', store))).toEqual([2n, 2n, 0n])
      expect(under.journalled()).toBe(2)
    })

    test('2: a row is applied when it is the newest of its entity, else stale, and kept either way', async () => {
      expect(await write(row(5n, 1n), row(3n, 2n), row(5n, 3n, { createdMicros: 6n }), row(4n, 4n))).toEqual([
        'applied',
        'stale',
        'applied',
        'stale',
      ])
      expect(short(await readAt(3n))).toEqual([3n, 3n, 0n])
      expect(short(await readAt(4n))).toEqual([4n, 4n, 0n])
      expect(short(await readAt(9n))).toEqual([5n, 6n, 0n])
      expect(under.journalled()).toBe(4)
    })

    test('2: an entity of another key or view is another entity', async () => {
      await write(row(5n, 1n))
      expect(await write(row(3n, 1n, { key: other }))).toEqual(['applied'])
      expect(await under.store.write(table + 1, [row(3n, 1n)], now)).toEqual(['applied'])
      expect(short(await readAt(9n))).toEqual([5n, 5n, 0n])
    })

    test('2: all orders of five writes leave the same state', async () => {
      const rows = [
        row(1n, 1n),
        row(2n, 2n),
        row(2n, 3n, { createdMicros: 3n }),
        row(2n, 4n, { createdMicros: 3n, sequence: 1n }),
        row(2n, undefined, { createdMicros: 1n }),
      ]
      const states = new Set<string>()
      for (const [index, order] of permutations(rows).entries()) {
        const tableId = 100 + index
        await Promise.all(order.map((each) => under.store.write(tableId, [each], now)))
        const answers: unknown[] = []
        for (let time = 0n; time < 5n; time++) {
          for (const visibility of ['known', 'event'] as const) {
            const [found] = await under.store.read([{ tableId, key }], time, visibility)
            answers.push([
              short(found)?.map(String),
              found?.deleted,
              found && Buffer.from(found.payload).toString('hex'),
            ])
          }
        }
        states.add(JSON.stringify(answers))
      }
      expect(states.size).toBe(1)
    })

    test('3: a row that comes again is a duplicate and changes nothing', async () => {
      const rows = [row(5n, 1n), row(5n, 2n, { createdMicros: 6n }), row(3n, 3n)]
      await write(...rows)
      expect(await write(...rows)).toEqual(['duplicate', 'duplicate', 'duplicate'])
      expect(under.journalled()).toBe(3)
    })

    test('3: without created time and sequence a row with the newest values is a duplicate, with others it is newer', async () => {
      const bare = { createdMicros: undefined, sequence: undefined }
      expect(await write(row(5n, 1n, bare), row(5n, 1n, bare), row(5n, 2n, bare))).toEqual([
        'applied',
        'duplicate',
        'applied',
      ])
      expect(short(await readAt(now))).toEqual([5n, now, 2n])
      expect(await write(row(5n, 1n, bare))).toEqual(['applied'])
    })

    test('3: with a sequence of its own a row that comes again is a duplicate whatever came in between', async () => {
      const first = row(5n, 1n, { createdMicros: undefined, sequence: 1n })
      const second = row(5n, 2n, { createdMicros: undefined, sequence: 2n })
      await write(first, second)
      expect(await under.store.write(table, [first, second], now + 5n)).toEqual(['duplicate', 'duplicate'])
    })

    test('4: another row with the same times and sequence is a conflict and changes nothing', async () => {
      await write(row(5n, 1n))
      expect(await write(row(5n, 2n), row(5n, undefined))).toEqual(['conflict', 'conflict'])
      expect((await readAt(9n))?.payload).toEqual(packValues([1n]))
      expect(under.journalled()).toBe(1)
    })

    test('5: every key of a read is answered, in order, at one T', async () => {
      await write(row(1n, 1n), row(3n, 3n), row(2n, 2n, { key: other }))
      const keys = [other, key, packValues(['LAX']), key].map((each) => ({ tableId: table, key: each }))
      const found = await under.store.read(keys, 2n, 'known')
      expect(found.map((each) => each?.eventMicros)).toEqual([2n, 1n, undefined, 1n])
    })

    test('5: what was not known at T is seen by event time only', async () => {
      await write(row(1n, 1n), row(2n, 2n, { createdMicros: 9n }))
      expect(short(await readAt(8n))).toEqual([1n, 1n, 0n])
      expect(short(await readAt(9n))).toEqual([2n, 9n, 0n])
      expect(short(await readAt(2n, 'event'))).toEqual([2n, 9n, 0n])
    })

    test('5: a deletion is a row, and the next row ends it', async () => {
      await write(row(1n, 1n), row(2n, undefined), row(3n, 3n))
      expect((await readAt(2n))?.deleted).toBe(true)
      expect((await readAt(3n))?.deleted).toBe(false)
    })

    test('5: a read before what was forgotten fails, at it and later it does not', async () => {
      await write(row(1n, 1n), row(5n, 5n))
      await under.store.forget(table, 3n)
      const failure = await readAt(2n).catch((error: Failure) => error)
      expect(failure).toMatchObject({ reason: 'TIME_FORGOTTEN', metadata: { rememberedFromMicros: '3' } })
      expect(short(await readAt(3n))).toEqual([1n, 1n, 0n])
    })

    test('6: forgetting keeps every answer at T or later', async () => {
      const rows = [row(1n, 1n), row(2n, 2n), row(2n, 3n, { createdMicros: 7n }), row(3n, 4n, { createdMicros: 9n })]
      await write(...rows, row(8n, 5n), row(1n, 1n, { key: other }))
      const answers = async () => {
        const found: unknown[] = []
        for (let time = 5n; time < 11n; time++) {
          found.push(short(await readAt(time)), short(await readAt(time, 'event')))
        }
        return found
      }
      const before = await answers()
      expect(await under.store.forget(table, 5n)).toBe(1)
      expect(await answers()).toEqual(before)
      expect((await under.store.read([{ tableId: table, key: other }], 9n, 'known'))[0]?.eventMicros).toBe(1n)
    })

    test('7: a write that fails leaves nothing', async () => {
      const wrong = { ...row(2n, 2n), payload: 5 as unknown as Uint8Array }
      await expect(write(row(1n, 1n), wrong)).rejects.toThrow()
      expect(await readAt(9n)).toBeUndefined()
      expect(under.journalled()).toBe(0)
      expect(await write(row(1n, 1n))).toEqual(['applied'])
    })

    test('the newest event of a view is known until the view is dropped', async () => {
      expect(await under.store.newestEvent(table)).toBeUndefined()
      await write(row(5n, 1n), row(3n, 1n))
      expect(await under.store.newestEvent(table)).toBe(5n)
      await under.store.drop(table)
      expect(await under.store.newestEvent(table)).toBeUndefined()
      expect(await readAt(9n)).toBeUndefined()
    })
  })
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]]
  return items.flatMap((item, place) => permutations(items.toSpliced(place, 1)).map((rest) => [item, ...rest]))
}
