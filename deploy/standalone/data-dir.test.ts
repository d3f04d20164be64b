import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ForeignDirectoryError, prepareDataDir } from './data-dir.ts'

test('a second run starts empty and keeps the first beside it', async () => {
  const directory = join(mkdtempSync(join(tmpdir(), 'slipway-')), 'data')
  await prepareDataDir(directory)
  writeFileSync(join(directory, 'registry.db'), 'first run')
  await prepareDataDir(directory)
  expect(readdirSync(directory)).toEqual(['slipway-standalone'])
  expect(readFileSync(join(`${directory}.previous`, 'registry.db'), 'utf8')).toBe('first run')
})

test('a folder that holds something else is left alone', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-'))
  writeFileSync(join(directory, 'thesis.txt'), 'precious')
  await expect(prepareDataDir(directory)).rejects.toThrow(ForeignDirectoryError)
  expect(readdirSync(directory)).toEqual(['thesis.txt'])
})
