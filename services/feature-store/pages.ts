/** Pages of lists that are held in memory, in the order of their names. */
import { Failure } from '@slipway/rpc'

const defaultPageSize = 100

/** Items a page, from a request's page size. */
export function pageSizeOf(pageSize: number): number {
  return pageSize === 0 ? defaultPageSize : pageSize
}

/** The token of a list names the last item that was shown. */
export const pageToken = {
  make: (last: string) => Buffer.from(last, 'utf8').toString('base64url'),
  parse: (token: string) => {
    const name = Buffer.from(token, 'base64url').toString('utf8')
    if (Buffer.from(name, 'utf8').toString('base64url') !== token) {
      throw Failure.invalid('page_token', 'is not a token that this list gave')
    }
    return name
  },
} as const

/** The page behind a token. */
export function pageOf<T extends { readonly name: string }>(items: readonly T[], pageSize: number, token: string) {
  const after = pageToken.parse(token)
  const rest = items.filter(({ name }) => name > after)
  const shown = rest.slice(0, pageSizeOf(pageSize))
  const last = shown.at(-1)
  return {
    items: shown,
    nextPageToken: rest.length > shown.length && last !== undefined ? pageToken.make(last.name) : '',
  }
}
