import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CannotStartError } from './cannot-start.ts'
import { prepareDataDir } from './data-dir.ts'

let parent: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'slipway-'))
})
afterEach(() => rmSync(parent, { recursive: true, force: true }))

test('a second run starts empty and keeps the first beside it', async () => {
  const directory = join(parent, 'data')
  const first = await prepareDataDir(directory)
  writeFileSync(join(directory, 'registry.db'), 'first run')
  first.release()
  const second = await prepareDataDir(directory)
  expect(readdirSync(directory)).not.toContain('registry.db')
  expect(readFileSync(join(`${directory}.previous`, 'registry.db'), 'utf8')).toBe('first run')
  second.release()
})

test('the folder of a run that is going on stays where it is', async () => {
  const directory = join(parent, 'data')
  const first = await prepareDataDir(directory)
  writeFileSync(join(directory, 'registry.db'), 'first run')
  await expect(prepareDataDir(directory)).rejects.toThrow('a run of Slipway is going on')
  expect(readFileSync(join(directory, 'registry.db'), 'utf8')).toBe('first run')
  first.release()
})

test('a folder that holds something else is left alone', async () => {
  writeFileSync(join(parent, 'thesis.txt'), 'precious')
  await expect(prepareDataDir(parent)).rejects.toThrow(CannotStartError)
  expect(readdirSync(parent)).toEqual(['thesis.txt'])
})

test('a file is no folder, and none can be made below it', async () => {
  const file = join(parent, 'thesis.txt')
  writeFileSync(file, 'precious')
  await expect(prepareDataDir(file)).rejects.toThrow('is a file; choose another --data-dir')
  await expect(prepareDataDir(join(file, 'data'))).rejects.toThrow(CannotStartError)
  expect(readFileSync(file, 'utf8')).toBe('precious')
})
