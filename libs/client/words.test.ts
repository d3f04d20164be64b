import { describe, expect, test } from 'vitest'
import { readValues } from './commands/value-words.ts'
import { parseMoment } from './moment.ts'
import {
  aliasName,
  endpointName,
  incidentName,
  modelName,
  NameError,
  shortName,
  versionName,
  versionReference,
} from './resource-name.ts'
import { closest, editDistance } from './suggestion.ts'

describe('resource names', () => {
  test.each([
    [modelName, 'flights', 'models/flights'],
    [modelName, 'models/flights', 'models/flights'],
    [endpointName, 'flight-delay', 'endpoints/flight-delay'],
    [versionName, 'flights/3', 'models/flights/versions/3'],
    [versionName, 'flights/v3', 'models/flights/versions/3'],
    [versionName, 'models/flights/versions/3', 'models/flights/versions/3'],
    [aliasName, 'flights@champion', 'models/flights/aliases/champion'],
    [aliasName, 'models/flights/aliases/champion', 'models/flights/aliases/champion'],
    [incidentName, 'flight-delay/abc', 'monitors/flight-delay/incidents/abc'],
  ])('%o reads %s as %s', (read, text, name) => expect(read(text)).toBe(name))

  test.each([
    [modelName, 'Flights'],
    [versionName, 'flights'],
    [versionName, 'flights@champion'],
    [aliasName, 'flights/3'],
    [versionName, 'flights/0'],
    [incidentName, 'flight-delay'],
  ])('%o refuses %s', (read, text) => expect(() => read(text)).toThrow(NameError))

  test('a short name reads back as the full one', () => {
    for (const name of ['models/flights/versions/3', 'models/flights/aliases/champion']) {
      expect(versionReference(shortName(name)).name).toBe(name)
    }
  })

  test('a digest is a version', () => {
    expect(versionReference(`sha256:${'a'.repeat(64)}`).kind).toBe('digest')
  })
})

describe('values', () => {
  test.each([
    ['distance=733', { kind: { case: 'int64Value', value: 733n } }],
    ['distance=733.5', { kind: { case: 'doubleValue', value: 733.5 } }],
    ['distance:double=733', { kind: { case: 'doubleValue', value: 733 } }],
    ['origin=ATL', { kind: { case: 'stringValue', value: 'ATL' } }],
    ['origin:string=7', { kind: { case: 'stringValue', value: '7' } }],
    ['late=true', { kind: { case: 'boolValue', value: true } }],
    ['late=', {}],
    ['text=a=b', { kind: { case: 'stringValue', value: 'a=b' } }],
  ])('%s', (word, value) => expect(Object.values(readValues('key', [word]))).toEqual([value]))

  test.each(['distance', '=3', 'distance:int=3.5', 'distance:length=3'])('%s is refused', (word) =>
    expect(() => readValues('key', [word])).toThrow(/--key/),
  )
})

describe('moments', () => {
  const now = new Date('2001-05-14T10:00:00Z')
  test.each([
    ['2001-05-14', '2001-05-14T00:00:00Z'],
    ['2001-05-14T09:30+02:00', '2001-05-14T07:30:00Z'],
    ['-90m', '2001-05-14T08:30:00Z'],
    ['-2d', '2001-05-12T10:00:00Z'],
  ])('%s is %s', (text, moment) =>
    expect(parseMoment('--at', text, now).seconds).toBe(BigInt(Date.parse(moment) / 1000)),
  )

  test.each(['yesterday', '14.05.2001', '2001-13-01'])('%s is refused', (text) =>
    expect(() => parseMoment('--at', text, now)).toThrow('must be a time such as'),
  )
})

describe('suggestions', () => {
  test.each([
    ['versoins', 'versions'],
    ['vers', 'versions'],
    ['endpoint', 'endpoints'],
  ])('%s means %s', (text, meant) => expect(closest(text, ['models', 'versions', 'endpoints'])).toBe(meant))

  test('nothing is suggested for what is far from everything', () =>
    expect(closest('xyzzy', ['models'])).toBeUndefined())

  test.each([
    ['', 'abc', 3],
    ['kitten', 'sitting', 3],
    ['ab', 'ba', 1],
    ['same', 'same', 0],
  ])('from %j to %j it takes %d steps', (a, b, steps) => expect(editDistance(a, b)).toBe(steps))
})
