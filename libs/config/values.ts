/** The grammar of single values: functions from text to a value, or to what was expected; only `parseFile` looks beyond its text. */
import { closeSync, openSync, statSync } from 'node:fs'

/** A value, or a phrase that says what the text should have been. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly expected: string }

/** Where to listen or connect. */
export interface SocketAddress {
  readonly host: string
  readonly port: number
}

const durationUnitsMs = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

const byteUnits = new Map([
  ['', 1],
  ['B', 1],
  ['KB', 1e3],
  ['MB', 1e6],
  ['GB', 1e9],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
])

const truths = new Set(['true', '1', 'yes', 'on'])
const falsehoods = new Set(['false', '0', 'no', 'off'])

/** A decimal integer that a double holds exactly. */
export function parseInteger(text: string): Parsed<number> {
  const value = Number(text)
  return /^[+-]?\d+$/.test(text) && Number.isSafeInteger(value) ? found(value) : expected('must be an integer')
}

/** A finite decimal number. */
export function parseNumber(text: string): Parsed<number> {
  const value = Number(text)
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) && Number.isFinite(value)
    ? found(value)
    : expected('must be a number')
}

/** `true`, `1`, `yes`, `on` or `false`, `0`, `no`, `off`, in any case. */
export function parseBoolean(text: string): Parsed<boolean> {
  const word = text.toLowerCase()
  if (truths.has(word)) return found(true)
  return falsehoods.has(word) ? found(false) : expected('must be true or false')
}

/** A length of time with its unit, such as `250ms` or `1.5h`, in milliseconds. */
export function parseDurationMs(text: string): Parsed<number> {
  return scaled(text, durationUnitsMs) ?? expected('must be a duration such as 250ms, 5s, 2m, 1h or 7d')
}

/** A number of bytes, with or without a unit, such as `4096` or `64MiB`; rounded down to whole bytes. */
export function parseBytes(text: string): Parsed<number> {
  const parsed = scaled(text, byteUnits)
  return parsed?.ok
    ? found(Math.floor(parsed.value))
    : expected('must be a number of bytes such as 4096, 64KiB or 2GiB')
}

/** `host:port`, with IPv6 hosts in brackets. */
export function parseAddress(text: string): Parsed<SocketAddress> {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host !== undefined && port <= 65_535
    ? found({ host, port })
    : expected('must be host:port with a port up to 65535')
}

/** The path of a file that can be read. */
export function parseFile(path: string): Parsed<string> {
  try {
    closeSync(openSync(path, 'r'))
    return statSync(path).isFile() ? found(path) : expected('must be a file')
  } catch (error) {
    return expected(`must be a file that can be read (${error instanceof Error ? error.message : error})`)
  }
}

function scaled(text: string, units: ReadonlyMap<string, number>): Parsed<number> | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text)
  const unit = units.get(match?.[2] ?? '')
  const value = Number(match?.[1]) * (unit ?? Number.NaN)
  return Number.isFinite(value) ? found(value) : undefined
}

function found<T>(value: T): Parsed<T> {
  return { ok: true, value }
}

function expected(phrase: string): Parsed<never> {
  return { ok: false, expected: phrase }
}
