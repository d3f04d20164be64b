import { Failure } from '@slipway/rpc'

const defaultPageSize = 100

/** Items a page, from a request's page size; 0 leaves it to the service. */
export function pageSizeOf(pageSize: number): number {
  return pageSize === 0 ? defaultPageSize : pageSize
}

/** Makes the token that continues a list behind `last`; it fits no other list. */
export function pageToken(list: string, last: string | number): string {
  return Buffer.from(JSON.stringify([list, last])).toString('base64url')
}

/** Reads a token of the same list; undefined for the first page, INVALID_ARGUMENT for anything else. */
export function parsePageToken<T extends string | number>(list: string, token: string, example: T): T | undefined {
  if (token === '') return undefined
  const parts = parse(token)
  if (Array.isArray(parts) && parts.length === 2 && parts[0] === list && typeof parts[1] === typeof example) {
    return parts[1] as T
  }
  throw Failure.invalid('page_token', 'is not a token that this list gave')
}

/** Bytes of stored messages after which a page ends early, so that no answer grows beyond what callers take. */
export const maxPageBytes = 8 * 1024 * 1024

/**
 * Cuts a page of `size` from its items and at least the one behind them, and says how the list goes on; with `bytesOf`,
 * a page of large items ends early.
 */
export function page<T>(
  list: string,
  items: readonly T[],
  size: number,
  keyOf: (item: T) => string | number,
  bytesOf: (item: T) => number = () => 0,
) {
  let bytes = 0
  const shown = items.slice(0, size).filter((item, index) => {
    bytes += bytesOf(item)
    return index === 0 || bytes <= maxPageBytes
  })
  const last = shown.at(-1)
  const nextPageToken = items.length > shown.length && last !== undefined ? pageToken(list, keyOf(last)) : ''
  return { items: shown, nextPageToken }
}

function parse(token: string): unknown {
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString())
  } catch {
    return undefined
  }
}
