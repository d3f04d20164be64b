/**
 * What a command of the `slipway` CLI is, and how the words of a command line become one.
 *
 * Parsing is pure: it takes words and answers with a command to run, a text to show, or a `UsageError` that says what
 * would have been right.
 */
import { parseArgs } from 'node:util'
import { closest } from './suggestion.ts'

/** One option, `--name` or `--name value`. */
export interface OptionSpec {
  readonly doc: string
  /** What stands for the value in the help; a switch has none. */
  readonly value?: string
  /** The only values allowed. */
  readonly values?: readonly string[]
  /** It may be given several times. */
  readonly many?: true
  readonly required?: true
}

/** One word after the command. */
export interface ArgumentSpec {
  readonly name: string
  readonly doc: string
  readonly optional?: true
}

/** What a command can be asked. */
export interface CommandSpec {
  /** Its words, such as `models list`. */
  readonly name: string
  readonly summary: string
  readonly arguments?: readonly ArgumentSpec[]
  readonly options?: Readonly<Record<string, OptionSpec>>
}

/** The words of one call, by name. */
export interface Words {
  /** An argument or option that is required. */
  text(name: string): string
  optional(name: string): string | undefined
  many(name: string): readonly string[]
  flag(name: string): boolean
}

/** What a command line asks for. */
export type Parsed<C extends CommandSpec> =
  | { readonly kind: 'run'; readonly command: C; readonly words: Words }
  | { readonly kind: 'help'; readonly of: C | undefined; readonly noun: string | undefined }

/** The command line is wrong; the message says what is right. */
export class UsageError extends Error {}

type Options = Readonly<Record<string, OptionSpec>>

/**
 * Reads a command line.
 *
 * @throws UsageError with a suggestion where there is one
 */
export function parseCommandLine<C extends CommandSpec>(
  words: readonly string[],
  commands: readonly C[],
  globalOptions: Options,
): Parsed<C> {
  const all = Object.assign({}, ...commands.map(({ options }) => options ?? {}), globalOptions) as Options
  const { tokens } = parseArgs({ args: [...words], options: parseArgsOptions(all), strict: false, tokens: true })
  const positionals = tokens.flatMap((token) => (token.kind === 'positional' ? [token.value] : []))
  const given = tokens.flatMap((token) => (token.kind === 'option' ? [token] : []))
  const asksHelp = given.some(({ name }) => name === 'help' || name === 'h')
  const helpFirst = positionals[0] === 'help' ? positionals.slice(1) : positionals
  if (asksHelp || helpFirst !== positionals || helpFirst.length === 0) return findHelp(helpFirst, commands)
  const { command, rest } = findCommand(positionals, commands)
  const options: Options = { ...command.options, ...globalOptions }
  const values = readOptions(command, options, given)
  for (const [name, value] of readArguments(command, rest)) values.set(name, [value])
  return { kind: 'run', command, words: wordsOf(values) }
}

function findHelp<C extends CommandSpec>(positionals: readonly string[], commands: readonly C[]): Parsed<C> {
  if (positionals.length === 0) return { kind: 'help', of: undefined, noun: undefined }
  const noun = positionals[0] ?? ''
  const isNoun = commands.some(({ name }) => name.startsWith(`${noun} `))
  if (positionals.length === 1 && isNoun) return { kind: 'help', of: undefined, noun }
  return { kind: 'help', of: findCommand(positionals, commands).command, noun: undefined }
}

function findCommand<C extends CommandSpec>(positionals: readonly string[], commands: readonly C[]) {
  const [noun = '', verb] = positionals
  const long = commands.find(({ name }) => name === `${noun} ${verb}`)
  if (long !== undefined) return { command: long, rest: positionals.slice(2) }
  const short = commands.find(({ name }) => name === noun)
  if (short !== undefined) return { command: short, rest: positionals.slice(1) }
  throw new UsageError(unknownCommand(noun, verb, commands))
}

function unknownCommand(noun: string, verb: string | undefined, commands: readonly CommandSpec[]): string {
  const nouns = [...new Set(commands.map(({ name }) => name.split(' ')[0] ?? ''))]
  if (!nouns.includes(noun)) {
    const meant = closest(noun, nouns)
    const rest = meant === undefined ? '' : ` Did you mean "slipway ${meant}"?`
    return `there is no "${noun}".${rest} There is: ${nouns.join(', ')}`
  }
  const verbs = commands.flatMap(({ name }) => (name.startsWith(`${noun} `) ? [name.slice(noun.length + 1)] : []))
  if (verb === undefined) return `"slipway ${noun}" needs one of: ${verbs.join(', ')}`
  const meant = closest(verb, verbs)
  const rest = meant === undefined ? '' : ` Did you mean "slipway ${noun} ${meant}"?`
  return `"slipway ${noun}" cannot "${verb}".${rest} It can: ${verbs.join(', ')}`
}

interface OptionToken {
  readonly name: string
  readonly rawName: string
  readonly value?: string | undefined
}

function readOptions(command: CommandSpec, options: Options, given: readonly OptionToken[]): Map<string, string[]> {
  const values = new Map<string, string[]>()
  for (const { name, rawName, value } of given) {
    const spec = options[name]
    if (spec === undefined) throw new UsageError(unknownOption(command, options, rawName))
    const checked = checkValue(rawName, spec, value)
    const before = values.get(name) ?? []
    if (before.length > 0 && !spec.many) throw new UsageError(`${rawName} is given twice`)
    values.set(name, [...before, checked])
  }
  for (const [name, spec] of Object.entries(options)) {
    if (spec.required && !values.has(name)) {
      throw new UsageError(`"slipway ${command.name}" needs --${name} ${spec.value ?? ''}: ${spec.doc}`)
    }
  }
  return values
}

function checkValue(rawName: string, spec: OptionSpec, value: string | undefined): string {
  if (spec.value === undefined) {
    if (value === undefined) return 'true'
    throw new UsageError(`${rawName} takes no value`)
  }
  if (value === undefined || value === '') throw new UsageError(`${rawName} needs a value: ${rawName} ${spec.value}`)
  if (spec.values === undefined || spec.values.includes(value)) return value
  const meant = closest(value, spec.values)
  const rest = meant === undefined ? '' : ` Did you mean ${meant}?`
  throw new UsageError(`${rawName} ${value}: must be one of ${spec.values.join(', ')}.${rest}`)
}

function unknownOption(command: CommandSpec, options: Options, rawName: string): string {
  const names = Object.keys(options).map((name) => `--${name}`)
  const meant = closest(rawName, names)
  const rest = meant === undefined ? '' : ` Did you mean ${meant}?`
  return `"slipway ${command.name}" has no ${rawName}.${rest} It has: ${names.join(', ')}`
}

function readArguments(command: CommandSpec, given: readonly string[]): [string, string][] {
  const specs = command.arguments ?? []
  const missing = specs.find((spec, index) => !spec.optional && given[index] === undefined)
  if (missing !== undefined) throw new UsageError(`"slipway ${command.name}" needs <${missing.name}>: ${missing.doc}`)
  const extra = given[specs.length]
  if (extra !== undefined)
    throw new UsageError(`"slipway ${command.name}" takes no ${JSON.stringify(extra)}: ${usageLine(command)}`)
  return specs.flatMap((spec, index): [string, string][] => {
    const value = given[index]
    return value === undefined ? [] : [[spec.name, value]]
  })
}

function wordsOf(values: ReadonlyMap<string, readonly string[]>): Words {
  const optional = (name: string) => values.get(name)?.[0]
  return {
    optional,
    text: (name) => {
      const value = optional(name)
      if (value === undefined) throw new TypeError(`${name} is not declared as required`)
      return value
    },
    many: (name) => values.get(name) ?? [],
    flag: (name) => values.has(name),
  }
}

function parseArgsOptions(options: Options) {
  const entries = Object.entries(options).map(
    ([name, { value }]) =>
      [name, { type: value === undefined ? ('boolean' as const) : ('string' as const), multiple: true }] as const,
  )
  return Object.fromEntries(entries)
}

/** How a command is called, in one line. */
export function usageLine(command: CommandSpec): string {
  const words = (command.arguments ?? []).map(({ name, optional }) => (optional ? `[${name}]` : `<${name}>`))
  const required = Object.entries(command.options ?? {}).flatMap(([name, { required, value }]) =>
    required ? [`--${name} ${value}`] : [],
  )
  return ['slipway', command.name, ...words, ...required].join(' ')
}

/** The help of one command. */
export function helpOf(command: CommandSpec, globalOptions: Options): string {
  const parts = [`${usageLine(command)}\n\n${command.summary}\n`]
  const args = command.arguments ?? []
  if (args.length > 0)
    parts.push(
      section(
        'Arguments',
        args.map(({ name, doc }) => [`<${name}>`, doc]),
      ),
    )
  if (command.options !== undefined) parts.push(section('Options', optionLines(command.options)))
  parts.push(section('Everywhere', optionLines(globalOptions)))
  return parts.join('\n')
}

/** The list of all commands, or of those of one noun. */
export function overview(commands: readonly CommandSpec[], globalOptions: Options, noun?: string): string {
  const shown = commands.filter(({ name }) => noun === undefined || name === noun || name.startsWith(`${noun} `))
  const lines = shown.map((command): [string, string] => [usageLine(command).replace(/^slipway /, ''), command.summary])
  return [
    'slipway <command> [arguments] [options]\n',
    section('Commands', lines),
    section('Everywhere', optionLines(globalOptions)),
    '"slipway help <command>" says more about one.\n',
  ].join('\n')
}

function optionLines(options: Options): [string, string][] {
  return Object.entries(options).map(([name, { value, values, doc, many, required }]) => {
    const notes = [values && `one of ${values.join(', ')}`, many && 'may be repeated', required && 'required']
    const note = notes.filter(Boolean).join('; ')
    return [`--${name}${value === undefined ? '' : ` ${value}`}`, note === '' ? doc : `${doc} (${note})`]
  })
}

function section(title: string, lines: readonly (readonly [string, string])[]): string {
  const width = Math.max(...lines.map(([left]) => left.length))
  return `${title}\n${lines.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join('')}`
}
