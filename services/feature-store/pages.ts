/** Pages of lists that are held in memory, in the order of their names. */
import { page, pageSizeOf, parsePageToken } from '@slipway/resources'

/** The page of a list that a request asks for. */
export function pageOf<T extends { readonly name: string }>(
  list: string,
  items: readonly T[],
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
): { items: T[]; nextPageToken: string } {
  const after = parsePageToken(list, pageToken, '') ?? ''
  const rest = items.filter(({ name }) => name > after)
  return page(list, rest, pageSizeOf(pageSize), ({ name }) => name)
}
