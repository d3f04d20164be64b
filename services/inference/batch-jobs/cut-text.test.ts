import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readCsvHeader } from './csv-header.ts'
import { cutText } from './cut-text.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-cut-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r\n', 'ä', ' '), maxLength: 6 })
const encode = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)

async function cut(text: string, rowsPerPart: number, isCsv: boolean) {
  const path = join(directory, 'rows')
  writeFileSync(path, text)
  const parts = await cutText(path, { file: 3, rowsPerPart, isCsv })
  const bytes = readFileSync(path)
  return parts.map((part) => ({ ...part, text: bytes.toString('utf8', part.offset, part.offset + part.length) }))
}

test('parts of CSV are its rows, none cut in two, whatever stands between quotes', async () => {
  const row = fc
    .tuple(field, field)
    .map(([left, right]) =>
      `x${encode(left).replace(/^"/, '')}`.includes('"') ? `x,${encode(right)}` : `x${left},${encode(right)}`,
    )
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { maxLength: 12 }),
      fc.constantFrom('\n', '\r\n'),
      fc.integer({ min: 1, max: 5 }),
      fc.boolean(),
      async (rows, newline, rowsPerPart, hasEnd) => {
        const text = ['"he""ad\ner",b', ...rows].join(newline) + (hasEnd ? newline : '')
        const parts = await cut(text, rowsPerPart, true)
        expect(parts.map((part) => part.rows)).toEqual(
          Array.from({ length: Math.ceil(rows.length / rowsPerPart) }, (_, index) =>
            Math.min(rowsPerPart, rows.length - index * rowsPerPart),
          ),
        )
        for (const { first, rows: count, text: found, file } of parts) {
          const wanted = rows.slice(first, first + count).join(newline)
          expect(found === wanted || found === wanted + newline).toBe(true)
          expect(file).toBe(3)
        }
      },
    ),
  )
})

test('lines of JSON are rows, empty ones are none, also where a piece of the file ends', async () => {
  const line = `{"a":"${'x'.repeat(1000)}\\"\\n"}`
  const text = Array.from({ length: 3000 }, (_, index) => (index % 3 === 0 ? '\r' : line)).join('\n')
  const parts = await cut(text, 700, false)
  expect(parts.map(({ rows }) => rows)).toEqual([700, 700, 600])
  for (const part of parts) expect(part.text.split('\n').filter((each) => each.trim() === line)).toHaveLength(part.rows)
})

test('a header names the columns, in quotes or not, and tells how lines end', async () => {
  const path = join(directory, 'header.csv')
  writeFileSync(path, '\uFEFFid,"two ""words""\nand a line",c\r\n1,2,3\r\n')
  expect(await readCsvHeader(path)).toEqual({ names: ['id', 'two "words"\nand a line', 'c'], newline: '\r\n' })
  writeFileSync(path, 'a,b,a\n')
  await expect(readCsvHeader(path)).rejects.toThrow('has two columns a')
  writeFileSync(path, '')
  await expect(readCsvHeader(path)).rejects.toThrow('has no header')
})
