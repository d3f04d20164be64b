/**
 * Reads settings from an environment object.
 *
 * 1. Nothing here looks at the process: the caller hands the environment in. Of the system only files that are named are looked at.
 * 2. Every problem is found before the first error is thrown: one {@link ConfigError} lists them all, a line each.
 * 3. A variable that is set to the empty string counts as not set.
 */

import type { Parsed, SocketAddress } from './values.ts'
import {
  parseAddress,
  parseBoolean,
  parseBytes,
  parseDurationMs,
  parseFile,
  parseInteger,
  parseNumber,
} from './values.ts'

/** Variables by name, as `process.env` holds them. */
export type Environment = Readonly<Record<string, string | undefined>>

/** What is wrong with one variable. */
export interface SettingProblem {
  readonly name: string
  readonly problem: string
  readonly doc: string
}

/** The settings cannot be used; the message has one line for each variable that must change. */
export class ConfigError extends Error {
  readonly problems: readonly SettingProblem[]

  constructor(problems: readonly SettingProblem[]) {
    const lines = problems.map(({ name, problem, doc }) => `  ${name}: ${problem} (${doc})`)
    super(`these settings need attention:\n${lines.join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

interface Described {
  /** What the setting decides, in a few words; shown when the value is wrong. */
  readonly doc: string
}

/** How to read one text. */
export interface OptionalTextOptions extends Described {
  readonly pattern?: RegExp
}

/** How to read one text that must be there, or has a default. */
export interface TextOptions extends OptionalTextOptions {
  readonly default?: string
}

/** How to read one number; both bounds are part of the range. */
export interface NumberOptions extends Described {
  readonly default?: number
  readonly min?: number
  readonly max?: number
}

/** How to read a length of time or a number of bytes; default and bounds are written as the variable would be. */
export interface QuantityOptions extends Described {
  readonly default?: string
  readonly min?: string
  readonly max?: string
}

/** Reads one variable at a time; a setting without a default is required. */
export interface SettingsReader {
  text(name: string, options: TextOptions): string
  optionalText(name: string, options: OptionalTextOptions): string | undefined
  /** The path of a file that can be read. */
  file(name: string, options: Described): string
  optionalFile(name: string, options: Described): string | undefined
  /** Texts between commas, trimmed, empty ones left out; none when the variable is not set. */
  list(name: string, options: OptionalTextOptions): readonly string[]
  /** The same with a `host:port` each. */
  addressList(name: string, options: Described): readonly string[]
  integer(name: string, options: NumberOptions): number
  number(name: string, options: NumberOptions): number
  /** `true`, `1`, `yes`, `on` or `false`, `0`, `no`, `off`. */
  boolean(name: string, options: Described & { readonly default?: boolean }): boolean
  /** A length of time such as `250ms`, `5s`, `2m`, `1.5h`, `7d`. */
  durationMs(name: string, options: QuantityOptions): number
  /** A number of bytes such as `4096`, `64KiB`, `16MiB`, `2GiB`, `10MB`. */
  bytes(name: string, options: QuantityOptions): number
  choice<const T extends string>(
    name: string,
    options: Described & { readonly values: readonly T[]; readonly default?: NoInfer<T> },
  ): T
  /** `host:port`, `[::1]:port`; port 0 asks the system for a free one. */
  address(name: string, options: Described & { readonly default?: string }): SocketAddress
}

/**
 * Calls `describe` with a reader over `env` and returns what it builds.
 *
 * While it runs, a setting that is wrong reads as a stand-in, so that the ones after it are looked at as well: do
 * nothing with the values in `describe` but put them in place.
 *
 * @throws ConfigError when at least one variable is missing or malformed
 */
export function readSettings<T>(env: Environment, describe: (read: SettingsReader) => T): T {
  const problems: SettingProblem[] = []
  const result = describe(createReader(env, problems))
  if (problems.length > 0) throw new ConfigError(problems)
  return result
}

interface Setting<T> extends Described {
  readonly parse: (text: string) => Parsed<T>
  readonly default?: T | undefined
  readonly standIn: T
}

function createReader(env: Environment, problems: SettingProblem[]): SettingsReader {
  const read = <T>(name: string, { doc, parse, default: fallback, standIn }: Setting<T>): T => {
    const text = env[name]?.trim()
    if (text === undefined || text === '') {
      if (fallback !== undefined) return fallback
      problems.push({ name, problem: 'is required', doc })
      return standIn
    }
    const parsed = parse(text)
    if (parsed.ok) return parsed.value
    problems.push({ name, problem: `${parsed.expected}, got ${JSON.stringify(text)}`, doc })
    return standIn
  }
  const optionalText = (name: string, { doc, pattern }: OptionalTextOptions) =>
    read<string | undefined>(name, { doc, parse: matching(pattern), default: undefined, standIn: undefined })
  const file = (name: string, { doc }: Described) => read<string>(name, { doc, parse: parseFile, standIn: '' })
  const isSet = (name: string) => (env[name]?.trim() ?? '') !== ''

  return {
    text: (name, { doc, pattern, default: fallback }) =>
      read(name, { doc, parse: matching(pattern), default: fallback, standIn: fallback ?? '' }),
    optionalText: (name, options) => (isSet(name) ? optionalText(name, options) : undefined),
    file,
    optionalFile: (name, options) => (isSet(name) ? file(name, options) : undefined),
    list: (name, { doc, pattern }) => read(name, { doc, parse: listOf(matching(pattern)), default: [], standIn: [] }),
    addressList: (name, { doc }) =>
      read(name, { doc, parse: listOf(asWritten(parseAddress)), default: [], standIn: [] }),
    integer: (name, options) => read(name, numeric(options, parseInteger)),
    number: (name, options) => read(name, numeric(options, parseNumber)),
    boolean: (name, { doc, default: fallback }) =>
      read(name, { doc, parse: parseBoolean, default: fallback, standIn: fallback ?? false }),
    durationMs: (name, options) => read(name, quantity(options, parseDurationMs)),
    bytes: (name, options) => read(name, quantity(options, parseBytes)),
    choice: <const T extends string>(
      name: string,
      { doc, values, default: fallback }: Described & { readonly values: readonly T[]; readonly default?: NoInfer<T> },
    ) => read<T>(name, { doc, parse: oneOf(values), default: fallback, standIn: fallback ?? firstOf(values) }),
    address: (name, { doc, default: fallback }) =>
      read(name, {
        doc,
        parse: parseAddress,
        default: fallback === undefined ? undefined : declared(parseAddress(fallback), fallback),
        standIn: { host: '127.0.0.1', port: 0 },
      }),
  }
}

function matching(pattern: RegExp | undefined): (text: string) => Parsed<string> {
  return (text) =>
    pattern === undefined || pattern.test(text)
      ? { ok: true, value: text }
      : { ok: false, expected: `must match ${pattern}` }
}

function listOf(parse: (text: string) => Parsed<string>): (text: string) => Parsed<readonly string[]> {
  return (text) => {
    const items = text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '')
    for (const item of items) {
      const parsed = parse(item)
      if (!parsed.ok) return parsed
    }
    return { ok: true, value: items }
  }
}

/** Checks a text and keeps it as it is. */
function asWritten(parse: (text: string) => Parsed<unknown>): (text: string) => Parsed<string> {
  return (text) => {
    const parsed = parse(text)
    return parsed.ok ? { ok: true, value: text } : parsed
  }
}

function oneOf<T extends string>(values: readonly T[]): (text: string) => Parsed<T> {
  return (text) => {
    const value = values.find((candidate) => candidate === text)
    return value === undefined ? { ok: false, expected: `must be one of ${values.join(', ')}` } : { ok: true, value }
  }
}

function firstOf<T>(values: readonly T[]): T {
  const first = values[0]
  if (first === undefined) throw new RangeError('a choice needs at least one value')
  return first
}

function numeric(options: NumberOptions, parse: (text: string) => Parsed<number>): Setting<number> {
  return {
    doc: options.doc,
    parse: within(parse, options.min, options.max, (value) => String(value)),
    default: options.default,
    standIn: options.default ?? options.min ?? 0,
  }
}

function quantity(options: QuantityOptions, parse: (text: string) => Parsed<number>): Setting<number> {
  const own = (text: string | undefined) => (text === undefined ? undefined : declared(parse(text), text))
  const min = own(options.min)
  const max = own(options.max)
  const written = new Map([
    [min, options.min],
    [max, options.max],
  ])
  return {
    doc: options.doc,
    parse: within(parse, min, max, (value) => written.get(value) ?? String(value)),
    default: own(options.default),
    standIn: own(options.default) ?? 0,
  }
}

function within(
  parse: (text: string) => Parsed<number>,
  min: number | undefined,
  max: number | undefined,
  write: (value: number) => string,
): (text: string) => Parsed<number> {
  return (text) => {
    const parsed = parse(text)
    if (!parsed.ok) return parsed
    if (min !== undefined && parsed.value < min) return { ok: false, expected: `must be at least ${write(min)}` }
    if (max !== undefined && parsed.value > max) return { ok: false, expected: `must be at most ${write(max)}` }
    return parsed
  }
}

/** A default or a bound is written by us: that it does not parse is a bug, not a setting. */
function declared<T>(parsed: Parsed<T>, text: string): T {
  if (!parsed.ok) throw new TypeError(`declared value ${JSON.stringify(text)} ${parsed.expected}`)
  return parsed.value
}
