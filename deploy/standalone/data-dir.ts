/**
 * The folder in which a run keeps everything.
 *
 * 1. Each run starts with an empty one; the run before is kept beside it, in `<folder>.previous`.
 * 2. A folder that no run of Slipway made is left alone, and so is one in which a run is going on.
 */
import { existsSync, statSync } from 'node:fs'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { CannotStartError } from './cannot-start.ts'

const marker = 'slipway-standalone'
const lock = 'slipway-standalone.lock'

/** The folder, held for one run. */
export interface HeldDataDir {
  /** Lets the next run have it; the end of the process does the same. */
  release(): void
}

/** Takes the folder, empty. Throws CannotStartError. */
export async function prepareDataDir(directory: string): Promise<HeldDataDir> {
  try {
    await moveAside(directory)
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, marker), 'Made by `npm start`; the next run moves this folder aside.\n')
  } catch (error) {
    if (error instanceof CannotStartError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new CannotStartError(`--data-dir ${directory} cannot be used: ${reason}`, { cause: error })
  }
  return hold(directory)
}

async function moveAside(directory: string): Promise<void> {
  if (!existsSync(directory)) return
  if (!statSync(directory).isDirectory()) {
    throw new CannotStartError(`${directory} is a file; choose another --data-dir`)
  }
  if ((await readdir(directory)).length === 0) return
  if (!existsSync(join(directory, marker))) {
    throw new CannotStartError(`${directory} is not empty and was not made by Slipway; choose another --data-dir`)
  }
  hold(directory).release()
  await rm(`${directory}.previous`, { recursive: true, force: true })
  await rename(directory, `${directory}.previous`)
}

/** The lock is SQLite's on a file: the kernel gives it back when the process dies, however it dies. */
function hold(directory: string): HeldDataDir {
  const database = new DatabaseSync(join(directory, lock))
  try {
    database.exec('pragma busy_timeout = 0; begin exclusive')
  } catch (error) {
    database.close()
    throw new CannotStartError(`a run of Slipway is going on in ${directory}; stop it or choose another --data-dir`, {
      cause: error,
    })
  }
  return { release: () => database.close() }
}
