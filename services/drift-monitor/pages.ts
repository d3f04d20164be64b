import { Failure } from '@slipway/rpc'

/** Default number of items a page. */
export const defaultPageSize = 100

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

/** Cuts one item too many from a page and says how the list goes on. */
export function page<T>(list: string, items: readonly T[], size: number, keyOf: (item: T) => string | number) {
  const shown = items.slice(0, size)
  const last = shown.at(-1)
  const nextPageToken = items.length > size && last !== undefined ? pageToken(list, keyOf(last)) : ''
  return { items: shown, nextPageToken }
}

function parse(token: string): unknown {
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString())
  } catch {
    return undefined
  }
}
