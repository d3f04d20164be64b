/** Names for definitions by what they say. */
import { createHash } from 'node:crypto'
import type { TypedColumn } from './view.ts'

/** `sha256:{hex}` of a value's JSON; the value holds text, numbers, booleans and lists of them only. */
export function digestOf(value: unknown): string {
  return `sha256:${createHash('sha256').update(JSON.stringify(value)).digest('hex')}`
}

/** The digest of a view's version: everything that decides what its values mean. */
export function viewDigest(view: {
  readonly id: string
  readonly keys: readonly TypedColumn[]
  readonly features: readonly TypedColumn[]
  readonly ttlMicros: bigint | undefined
}): string {
  const columns = (list: readonly TypedColumn[]) => list.map(({ name, type }) => [name, type])
  return digestOf([view.id, columns(view.keys), columns(view.features), String(view.ttlMicros ?? 0n)])
}

/** The digest of a feature service's version: its features in order, and the versions of their views. */
export function serviceDigest(features: readonly string[], viewDigests: Readonly<Record<string, string>>): string {
  return digestOf([features, Object.entries(viewDigests).sort(([a], [b]) => (a < b ? -1 : 1))])
}

/** The etag of something with a digest. */
export function etagOf(...parts: readonly string[]): string {
  return digestOf(parts).slice('sha256:'.length, 'sha256:'.length + 16)
}
