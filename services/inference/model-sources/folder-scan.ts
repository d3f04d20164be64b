/** What lies in a folder in Triton's layout: `{model}/{version}/model.onnx`, with other files of the version beside. */
import type { Stats } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { versionName } from '../model-source.ts'

const MODEL_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
/** As Triton has it: a number without leading zeros. */
const VERSION_PATTERN = /^[1-9]\d{0,14}$/
const MAX_VERSIONS = 10_000
const MAX_FILES = 1000
const MODEL_FILE = 'model.onnx'
/** What a version is made by: a model, or a pipeline of models. */
const ENTRY_FILES: readonly string[] = [MODEL_FILE, 'pipeline.json']

/** A version as it lies there now. */
export interface FoundVersion {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  readonly number: string
  readonly directory: string
  readonly files: readonly FoundFile[]
  /** Changes when one of the files does. */
  readonly fingerprint: string
  /** When one of them was changed last. */
  readonly changedMs: number
}

/** A file of a version. */
export interface FoundFile {
  /** Within the version, with slashes. */
  readonly path: string
  readonly sizeBytes: number
}

/** What a look found. */
export interface FolderScan {
  readonly versions: ReadonlyMap<string, FoundVersion>
  /** What lies there and can be no model, in words. */
  readonly problems: readonly string[]
}

/** The folder cannot be served; the message says why. */
export class FolderError extends Error {}

/** Looks at a folder. Throws FolderError when it is none, or cannot be read. */
export async function scanFolder(directory: string): Promise<FolderScan> {
  const versions = new Map<string, FoundVersion>()
  const problems: string[] = []
  const folders = await foldersIn(directory)
  if (folders === undefined) {
    const problem = 'it looks like one model, or one version: give the folder above, with {model}/{version}/model.onnx'
    return { versions, problems: [problem] }
  }
  for (const model of folders) {
    if (!MODEL_PATTERN.test(model)) {
      problems.push(`${model}: a model's name has letters, digits, '.', '_' and '-' only, 128 at the most`)
      continue
    }
    const numbers = (await readdir(join(directory, model)).catch(() => [])).filter((name) => VERSION_PATTERN.test(name))
    if (numbers.length === 0) problems.push(`${model}: holds no version, such as ${model}/1/${MODEL_FILE}`)
    for (const number of numbers) {
      if (versions.size >= MAX_VERSIONS) throw new FolderError(`${directory} holds more than ${MAX_VERSIONS} versions`)
      const found = await lookAt(join(directory, model, number), model, number)
      if (typeof found === 'string') problems.push(`${model}/${number}: ${found}`)
      else versions.set(found.name, found)
    }
  }
  return { versions, problems }
}

/** The folders in it; undefined when they are versions, or it is a version itself. */
async function foldersIn(directory: string): Promise<string[] | undefined> {
  const entries = await readdir(directory).catch((error: unknown) => {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw new FolderError(`${directory} is not there`)
    if (code === 'ENOTDIR') throw new FolderError(`${directory} is a file, not a folder of models`)
    throw new FolderError(`${directory} cannot be read: ${code ?? String(error)}`)
  })
  const shown = entries.filter((name) => !name.startsWith('.')).sort()
  const isFolder = await Promise.all(shown.map(async (name) => (await kindOf(join(directory, name)))?.isDirectory()))
  const folders = shown.filter((_, index) => isFolder[index])
  const areVersions = folders.length > 0 && folders.every((name) => VERSION_PATTERN.test(name))
  return shown.includes(MODEL_FILE) || areVersions ? undefined : folders
}

/** The version, or what is wrong with it. */
async function lookAt(directory: string, model: string, number: string): Promise<FoundVersion | string> {
  if (!(await kindOf(directory))?.isDirectory()) return 'is a file where a folder should be'
  const paths = await readdir(directory, { recursive: true }).catch(() => [])
  const files: FoundFile[] = []
  const marks: string[] = []
  let changedMs = 0
  for (const path of paths.map((each) => each.replaceAll('\\', '/')).sort()) {
    const found = await kindOf(join(directory, path))
    if (!found?.isFile()) continue
    if (files.length >= MAX_FILES) return `holds more than ${MAX_FILES} files`
    files.push({ path, sizeBytes: found.size })
    marks.push(`${path}:${found.size}:${found.mtimeMs}:${found.ino}`)
    changedMs = Math.max(changedMs, found.mtimeMs)
  }
  if (!files.some(({ path }) => ENTRY_FILES.includes(path))) return `has no ${MODEL_FILE}`
  const name = versionName(model, number)
  return { name, model, number, directory, files, fingerprint: marks.join('\n'), changedMs }
}

async function kindOf(path: string): Promise<Stats | undefined> {
  return await stat(path).catch(() => undefined)
}
