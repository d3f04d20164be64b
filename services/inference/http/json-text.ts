/** JSON as it comes: every integer with all its digits. */
import { isUtf8 } from 'node:buffer'
import { httpRefusal } from './failures.ts'

/** A JSON object as it was sent: nothing is known of what it holds. */
export type JsonObject = Readonly<Record<string, unknown>>

// An integer of so many digits may be one that a JavaScript number cannot hold.
const LONG_INTEGER = /[[,:\s-]\d{16}/
const INTEGER = /^-?\d+$/

/**
 * Parses text. An integer beyond ±(2^53 - 1) is a bigint with the digits that were sent; everything else is as `JSON.parse`
 * gives it. Throws INVALID_ARGUMENT.
 */
export function parseJson(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw httpRefusal.badBody('the body is not UTF-8')
  const text = bytes.toString('utf8')
  try {
    return LONG_INTEGER.test(text) ? JSON.parse(text, keepDigits) : JSON.parse(text)
  } catch (cause) {
    const position = cause instanceof Error ? /at position (\d+)/.exec(cause.message)?.[1] : undefined
    throw httpRefusal.badBody(`the body is not valid JSON${position === undefined ? '' : `: see position ${position}`}`)
  }
}

function keepDigits(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value) || context?.source === undefined) return value
  return INTEGER.test(context.source) ? BigInt(context.source) : value
}

/** The value if it is an object. */
export function objectOf(value: unknown): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined
}
