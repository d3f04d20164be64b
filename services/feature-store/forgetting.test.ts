import { expect, test } from 'vitest'
import { forgetOnce } from './forgetting.ts'
import type { OnlineStore } from './online-store/online-store.ts'
import type { ViewVersion } from './view.ts'

const views = [1, 2, 3].map(
  (tableId): ViewVersion => ({ tableId, id: '', digest: '', keys: [], features: [], ttlMicros: undefined }),
)

async function forgotten(newest: readonly (bigint | undefined)[], now: bigint) {
  const calls: [number, bigint][] = []
  const errors: unknown[] = []
  const store = {
    newestEvent: async (tableId: number) => newest[tableId - 1],
    forget: async (tableId: number, before: bigint) => {
      if (before < 0n) throw new Error('the disk is full')
      calls.push([tableId, before])
      return 0
    },
  } as unknown as OnlineStore
  const options = { store, views: () => views, rememberMicros: 10n, clock: () => now }
  await forgetOnce({ ...options, onError: (error) => errors.push(error) }, new AbortController().signal)
  return { calls, errors }
}

test('what lies further behind the newest event of a view than is remembered goes, view by view', async () => {
  expect((await forgotten([100n, undefined, 50n], 1000n)).calls).toEqual([
    [1, 90n],
    [3, 40n],
  ])
})

test('one event time in the far future does not take the present away', async () => {
  expect((await forgotten([10n ** 15n, 50n], 60n)).calls).toEqual([
    [1, 50n],
    [2, 40n],
  ])
})

test('a view that fails does not keep the others', async () => {
  const { calls, errors } = await forgotten([5n, 50n], 60n)
  expect(calls).toEqual([[2, 40n]])
  expect(errors).toHaveLength(1)
})
