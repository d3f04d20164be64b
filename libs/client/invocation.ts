/** What a command has at hand, and how it shows its results: as JSON when asked, for people otherwise. */
import { type DescMessage, type JsonValue, type MessageShape, toJson } from '@bufbuild/protobuf'
import type { CommandSpec, Words } from './command.ts'
import type { Slipway } from './connect.ts'
import { type Terminal, table } from './terminal.ts'

/** What a command has at hand. */
export interface Invocation {
  readonly words: Words
  readonly slipway: Slipway
  readonly terminal: Terminal
  readonly env: Readonly<Record<string, string | undefined>>
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
  /** Whether results are wanted as JSON. */
  readonly json: boolean
}

/** A command and what it does; what it throws is reported. */
export interface Command extends CommandSpec {
  run(invocation: Invocation): Promise<void>
}

/** How the items of a list are shown to people. */
export interface ListLayout<T> {
  readonly header: readonly string[]
  readonly row: (item: T) => readonly string[]
}

/** Shows one value. */
export function show({ json, terminal }: Invocation, value: JsonValue, text: () => string): void {
  terminal.out(json ? `${JSON.stringify(value, undefined, 2)}\n` : text())
}

/** Shows one message. */
export function showMessage<S extends DescMessage>(
  invocation: Invocation,
  schema: S,
  message: MessageShape<S>,
  text: (message: MessageShape<S>) => string,
): void {
  show(invocation, toJson(schema, message), () => text(message))
}

/** Shows a list of messages. */
export function showList<S extends DescMessage>(
  invocation: Invocation,
  schema: S,
  messages: readonly MessageShape<S>[],
  { header, row }: ListLayout<MessageShape<S>>,
): void {
  const values = () => messages.map((message) => toJson(schema, message))
  show(invocation, invocation.json ? values() : null, () => table(header, messages.map(row)))
}

/** Shows one message of a stream: a line of JSON, or a line of text. */
export function showNext<S extends DescMessage>(
  { json, terminal }: Invocation,
  schema: S,
  message: MessageShape<S>,
  text: (message: MessageShape<S>) => string,
): void {
  terminal.out(`${json ? JSON.stringify(toJson(schema, message)) : text(message)}\n`)
}

/** All pages of a list. */
export async function allPages<P extends { readonly nextPageToken: string }, T>(
  page: (pageToken: string) => Promise<P>,
  itemsOf: (page: P) => readonly T[],
): Promise<T[]> {
  const items: T[] = []
  let pageToken = ''
  do {
    const next = await page(pageToken)
    items.push(...itemsOf(next))
    pageToken = next.nextPageToken
  } while (pageToken !== '')
  return items
}
