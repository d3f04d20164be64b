import { describe, expect, test } from 'vitest'
import { type CommandSpec, helpOf, overview, parseCommandLine, UsageError } from './command.ts'

const commands: readonly CommandSpec[] = [
  { name: 'models list', summary: 'all models' },
  { name: 'models get', summary: 'one model', arguments: [{ name: 'model', doc: 'the model' }] },
  {
    name: 'aliases set',
    summary: 'move an alias',
    arguments: [
      { name: 'alias', doc: 'the alias' },
      { name: 'version', doc: 'the version', optional: true },
    ],
    options: {
      reason: { value: 'TEXT', doc: 'why' },
      label: { value: 'K=V', doc: 'a label', many: true },
      mode: { value: 'MODE', values: ['fast', 'safe'], doc: 'how' },
      force: { doc: 'do not ask' },
    },
  },
  { name: 'register', summary: 'register', options: { file: { value: 'FILE', doc: 'the file', required: true } } },
]
const globals = { json: { doc: 'as JSON' } }
const parse = (line: string) => parseCommandLine(line.split(' ').filter(Boolean), commands, globals)

test('words become a command with its arguments and options, in any order', () => {
  const parsed = parse('--json aliases --reason why=so set a@b --label x=1 --label y=2 v/3 --force')
  if (parsed.kind !== 'run') throw new Error('no command')
  expect(parsed.command.name).toBe('aliases set')
  expect(parsed.words.text('alias')).toBe('a@b')
  expect(parsed.words.optional('version')).toBe('v/3')
  expect(parsed.words.optional('reason')).toBe('why=so')
  expect(parsed.words.many('label')).toEqual(['x=1', 'y=2'])
  expect([parsed.words.flag('json'), parsed.words.flag('force')]).toEqual([true, true])
})

describe('what is wrong is answered with what is right', () => {
  test.each([
    ['model list', 'Did you mean "slipway models"?'],
    ['models lst', 'Did you mean "slipway models list"?'],
    ['models', 'needs one of: list, get'],
    ['models list --jsn', 'Did you mean --json?'],
    ['models get', 'needs <model>: the model'],
    ['models list extra', 'takes no "extra"'],
    ['aliases set a --mode safer', 'must be one of fast, safe. Did you mean safe?'],
    ['aliases set a --reason', '--reason needs a value: --reason TEXT'],
    ['aliases set a --force=yes', '--force takes no value'],
    ['aliases set a --reason x --reason y', '--reason is given twice'],
    ['register', 'needs --file FILE: the file'],
    ['xyzzy', 'There is: models, aliases, register'],
  ])('%s', (line, answer) => {
    expect(() => parse(line)).toThrow(UsageError)
    expect(() => parse(line)).toThrow(answer)
  })
})

test.each(['', 'help', '--help', 'help models', 'help register', 'register --help', 'help models get'])(
  'help is given, not an error, for "%s"',
  (line) => expect(parse(line).kind).toBe('help'),
)

test('help names every argument and option', () => {
  const set = commands[2]
  if (set === undefined) throw new Error('no command')
  const text = helpOf(set, globals)
  for (const part of [
    'slipway aliases set <alias> [version]',
    '--reason TEXT',
    'one of fast, safe',
    'may be repeated',
    '--json',
  ]) {
    expect(text).toContain(part)
  }
  expect(overview(commands, globals, 'models')).not.toContain('aliases')
})
