import { expect, test } from 'vitest'
import {
  aliasName,
  isReservedAlias,
  modelName,
  parseAliasName,
  parseModelName,
  parseVersionName,
  versionName,
} from './names.ts'

test('a name and its parts are the same thing', () => {
  expect(modelName(parseModelName('models/flight-delay', 'name'))).toBe('models/flight-delay')
  expect(versionName(parseVersionName('models/a/versions/17', 'name'))).toBe('models/a/versions/17')
  expect(aliasName(parseAliasName('models/a/aliases/next-best', 'name'))).toBe('models/a/aliases/next-best')
})

test.each(['models/', 'models/A', 'models/-a', 'models/a-', 'models/a/b', 'a', `models/${'a'.repeat(64)}`])(
  '%s is no model',
  (name) => {
    expect(() => parseModelName(name, 'parent')).toThrow(/^parent: must look like/)
  },
)

test.each(['models/a/versions/0', 'models/a/versions/01', 'models/a/versions/x', 'models/a/versions/1/x', 'models/a'])(
  '%s is no version',
  (name) => {
    expect(() => parseVersionName(name, 'name')).toThrow(/must look like/)
  },
)

test.each(['models/a/aliases/', 'models/a/aliases/7', 'models/a/aliases/A', 'models/a/aliases/a/b'])(
  '%s is no alias',
  (name) => {
    expect(() => parseAliasName(name, 'name')).toThrow(/must look like/)
  },
)

test.each([
  ['latest', true],
  ['v7', true],
  ['v007', true],
  ['7', true],
  ['v', false],
  ['v7b', false],
  ['latest-1', false],
  ['champion', false],
])('whether %s is reserved: %s', (alias, reserved) => {
  expect(isReservedAlias(alias)).toBe(reserved)
})
