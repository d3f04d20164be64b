/** The files that a job reads, and whether they and its results lie where they may. */
import { glob, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { Code, Failure } from '@slipway/rpc'
import { type Format, MAX_FILES } from './recipe.ts'

const pattern = /[*?[\]{}]/

/** Folders in which files may lie; undefined: anywhere. */
export type Folders = readonly string[] | undefined

/** The files that paths and patterns stand for, by name. INVALID_ARGUMENT when one stands for none. */
export async function findFiles(paths: readonly string[], folders: Folders): Promise<readonly string[]> {
  const found = new Set<string>()
  for (const [index, path] of paths.entries()) {
    const field = `batch_job.files.paths[${index}]`
    if (!isAbsolute(path)) throw Failure.invalid(field, `${path} is not an absolute path`)
    const files = pattern.test(path) ? await matches(path) : [path]
    for (const file of files) {
      const isFile = await stat(file).then(
        (stats) => stats.isFile(),
        () => false,
      )
      if (!isFile && files.length === 1) throw Failure.invalid(field, `there is no file ${path}`)
      if (isFile) found.add(file)
      if (found.size > MAX_FILES) throw Failure.invalid(field, `more than ${MAX_FILES} files`)
    }
    if (files.length === 0) throw Failure.invalid(field, `no file is called like ${path}`)
  }
  const files = [...found].toSorted()
  for (const file of files) await checkPlace('batch_job.files.paths', file, folders)
  return files
}

/** Throws PERMISSION_DENIED when a path leads out of the folders. */
export async function checkPlace(field: string, path: string, folders: Folders): Promise<void> {
  if (folders === undefined) return
  const real = await realOf(path)
  for (const folder of folders) {
    const way = relative(await realOf(resolve(folder)), real)
    if (way === '' || (!way.startsWith('..') && !isAbsolute(way))) return
  }
  const message = `${field}: ${path} is not in a folder of SLIPWAY_INFERENCE_BATCH_FOLDERS`
  throw new Failure(Code.PERMISSION_DENIED, 'FOLDER_NOT_ALLOWED', message)
}

/** The format that a file's name tells. */
export function formatOf(path: string): Format | undefined {
  if (/\.(parquet|pq)$/i.test(path)) return 'parquet'
  if (/\.csv$/i.test(path)) return 'csv'
  return /\.(jsonl|ndjson)$/i.test(path) ? 'jsonl' : undefined
}

async function matches(path: string): Promise<string[]> {
  const files: string[] = []
  for await (const file of glob(path)) {
    files.push(file)
    if (files.length > MAX_FILES) break
  }
  return files
}

/** The path without links; of what is not there yet, that of its folder. */
async function realOf(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error
    return join(await realOf(dirname(path)), basename(path))
  }
}
