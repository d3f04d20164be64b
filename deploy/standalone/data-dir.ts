/** The folder in which a run keeps everything. Each run starts with an empty one; the run before is kept beside it. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const marker = 'slipway-standalone'

/** The folder holds something that no run of Slipway left there. */
export class ForeignDirectoryError extends Error {}

/** Makes the folder empty: what an earlier run left moves to `<folder>.previous`. Throws ForeignDirectoryError. */
export async function prepareDataDir(directory: string): Promise<void> {
  if (existsSync(directory) && (await readdir(directory)).length > 0) {
    if (!existsSync(join(directory, marker))) {
      throw new ForeignDirectoryError(
        `${directory} is not empty and was not made by Slipway; choose another --data-dir`,
      )
    }
    await rm(`${directory}.previous`, { recursive: true, force: true })
    await rename(directory, `${directory}.previous`)
  }
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, marker), 'Made by `npm start`; the next run moves this folder aside.\n')
}
