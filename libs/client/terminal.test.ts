import { describe, expect, test } from 'vitest'
import {
  bar,
  bytesText,
  countText,
  enumText,
  fields,
  numberText,
  progress,
  sparkline,
  styled,
  table,
} from './terminal.ts'

test('a table puts numbers to the right and texts to the left', () => {
  expect(
    table(
      ['name', 'rows'],
      [
        ['a', '1'],
        ['long name', '1 234'],
      ],
    ),
  ).toBe(`NAME        ROWS\na${' '.repeat(14)}1\nlong name  1 234\n`)
  expect(
    table(
      ['name', 'rows'],
      [
        ['a', '1'],
        ['b', '1234'],
      ],
    ),
  ).toBe('NAME  ROWS\na        1\nb     1234\n')
  expect(table(['name'], [])).toBe('none\n')
})

test('fields without a value are left out', () => {
  expect(
    fields([
      ['model', 'flights'],
      ['note', ''],
      ['etag', undefined],
      ['id', '7'],
    ]),
  ).toBe('model  flights\nid     7\n')
})

describe('numbers', () => {
  test.each([
    [0, '0'],
    [0.25, '0.25'],
    [123456.789, '123500'],
    [1e-40, '1.0e-40'],
    [12_345_678, '1.2e+7'],
    [Number.NaN, 'NaN'],
  ])('%d reads %s', (value, text) => expect(numberText(value)).toBe(text))

  test.each([
    [999n, '999'],
    [50_000n, '50 000'],
    [1_234_567n, '1 234 567'],
  ])('%d counts %s', (value, text) => expect(countText(value)).toBe(text))

  test.each([
    [436, '436 B'],
    [1536, '1.5 KiB'],
    [3 * 1024 ** 3, '3.0 GiB'],
  ])('%d bytes are %s', (value, text) => expect(bytesText(value)).toBe(text))
})

test.each([
  [0, '    '],
  [0.5, '██  '],
  [0.28, '█▏  '],
  [1, '████'],
  [7, '████'],
])('a bar of %d is %j', (share, text) => expect(bar(share, 4)).toBe(text))

test('a sparkline shows nothing for nothing and something for little', () => {
  expect(sparkline([0, 0.001, 0.5, 1], 1)).toBe(' ▁▄█')
})

test('styles and progress appear only where they can be seen', () => {
  expect(styled({ colours: false }, 'red', 'x')).toBe('x')
  expect(styled({ colours: true }, 'red', 'x')).toBe('\u001b[31mx\u001b[39m')
  const written: string[] = []
  const terminal = { out: () => {}, err: (text: string) => void written.push(text), width: 80, colours: false }
  progress({ ...terminal, drawsProgress: false }, 'upload').update(0.5, 'half')
  expect(written).toEqual([])
  progress({ ...terminal, drawsProgress: true }, 'upload').update(0.5, 'half')
  expect(written.join('')).toContain(' 50 % half')
})

test('an enum value reads as words, an unknown one as its number', () => {
  expect(enumText({ UNSPECIFIED: 0, NO_MATERIAL_DRIFT: 2 }, 2)).toBe('no material drift')
  expect(enumText({ UNSPECIFIED: 0 }, 9)).toBe('unknown (9)')
})
