import { expect, test } from 'vitest'
import { maxPageBytes, page, pageSizeOf, pageToken, parsePageToken } from './index.ts'

const keyOf = (row: { readonly key: number }) => row.key
const bytesOf = (row: { readonly bytes: number }) => row.bytes
const rows = (count: number, bytes = 0) => Array.from({ length: count }, (_, key) => ({ key, bytes }))

test('a page that is not the last one has a token that leads behind its last item', () => {
  const { items, nextPageToken } = page('list', rows(4), 3, keyOf)
  expect(items.map(keyOf)).toEqual([0, 1, 2])
  expect(parsePageToken('list', nextPageToken, 0)).toBe(2)
  expect(page('list', rows(3), 3, keyOf).nextPageToken).toBe('')
  expect(page('list', rows(0), 3, keyOf)).toEqual({ items: [], nextPageToken: '' })
})

test('a request that names no page size gets a default', () => {
  expect(pageSizeOf(0)).toBe(100)
  expect(pageSizeOf(7)).toBe(7)
})

test('the first page has no token', () => {
  expect(parsePageToken('list', '', 0)).toBeUndefined()
})

test('a page of large items ends early, but never without an item', () => {
  const { items, nextPageToken } = page('list', rows(5, maxPageBytes / 2), 10, keyOf, bytesOf)
  expect(items.map(keyOf)).toEqual([0, 1])
  expect(parsePageToken('list', nextPageToken, 0)).toBe(1)
  expect(page('list', rows(2, maxPageBytes + 1), 10, keyOf, bytesOf).items.map(keyOf)).toEqual([0])
})

test.each(['x', '%%%', pageToken('other', 1), pageToken('list', 'a'), Buffer.from('[1]').toString('base64url')])(
  'the token %s is not one of this list',
  (token) => {
    expect(() => parsePageToken('list', token, 0)).toThrow(/page_token/)
  },
)
