/** Feature values and entity keys as words of a command line. */
import { UsageError } from '../command.ts'
import { type PlainValue, toValue, type ValueInit } from '../feature-value.ts'

const typed: Readonly<Record<string, (text: string) => PlainValue | undefined>> = {
  string: (text) => text,
  int: (text) => (/^[+-]?\d+$/.test(text) ? BigInt(text) : undefined),
  double: (text) => (text.trim() === '' || Number.isNaN(Number(text)) ? undefined : Number(text)),
  bool: (text) => (text === 'true' ? true : text === 'false' ? false : undefined),
  null: (text) => (text === '' ? null : undefined),
}

/** Reads `name=value` words; the value's type is what it looks like, or what `name:string=` says. */
export function readValues(option: string, words: readonly string[]): Record<string, ValueInit> {
  return Object.fromEntries(words.map((word) => readValue(option, word)))
}

function readValue(option: string, word: string): [string, ValueInit] {
  const [, name = '', type, text = ''] = /^([A-Za-z_][\w]*)(?::([a-z]+))?=(.*)$/s.exec(word) ?? []
  if (name === '') throw new UsageError(`--${option} ${word}: must be NAME=VALUE, such as distance=733 or origin=ATL`)
  if (type === undefined) return [name, toValue(guess(text))]
  const value = typed[type]?.(text)
  if (value !== undefined) return [name, toValue(value)]
  const known = Object.keys(typed)
  throw new UsageError(
    `--${option} ${word}: ${known.includes(type) ? `not of type ${type}` : `the types are ${known.join(', ')}`}`,
  )
}

function guess(text: string): PlainValue {
  if (text === '' || text === 'null') return null
  if (text === 'true' || text === 'false') return text === 'true'
  if (/^[+-]?\d{1,18}$/.test(text)) return BigInt(text)
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : text
}
