/**
 * The folder of a job's results, on storage that all replicas see.
 *
 * 1. `_job.json` is written first and only into an empty folder: a folder belongs to one job.
 * 2. A file has its name only when it is whole and durable. The first that is given a name keeps it: what a part was written
 *    as does not change, even if two replicas write it at once.
 * 3. `_SUCCESS` is the last file; without it the results are not complete.
 */
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { access, link, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Code, Failure } from '@slipway/rpc'
import { type Plan, partFile, type Recipe } from './recipe.ts'

const JOB_FILE = '_job.json'
const PLAN_FILE = '_plan.json'
const SUCCESS_FILE = '_SUCCESS'
const INPUT_FOLDER = '_input'
const unfinished = /^\.[\w.-]+\.tmp$/

/** See the top of this file. */
export class OutputFolder {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** Where rows are put that come from no file. */
  get inputFolder(): string {
    return join(this.path, INPUT_FOLDER)
  }

  /** Throws FAILED_PRECONDITION when the folder cannot take the results of a new job. Writes nothing. */
  async check(recipe: Recipe): Promise<void> {
    const names = await readdir(this.path).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return undefined
      throw unusable(this.path, 'is no folder that can be read', cause)
    })
    if (names !== undefined && names.length > 0 && !(await this.#isOf(names, recipe))) {
      throw unusable(this.path, 'is not empty')
    }
    const existing = names === undefined ? await nearestFolder(this.path) : this.path
    await access(existing, constants.W_OK).catch((cause) => {
      throw unusable(this.path, 'cannot be written', cause)
    })
  }

  /** Makes the folder that of a job. */
  async claim(recipe: Recipe): Promise<void> {
    await this.check(recipe)
    try {
      await mkdir(this.path, { recursive: true })
      await this.#write(JOB_FILE, JSON.stringify(recipe, undefined, 2))
    } catch (cause) {
      throw unusable(this.path, 'cannot be written', cause)
    }
    const { job } = await this.recipe()
    if (job !== recipe.job) throw unusable(this.path, 'is not empty')
  }

  /** What the job does. */
  async recipe(): Promise<Recipe> {
    return JSON.parse(await readFile(join(this.path, JOB_FILE), 'utf8')) as Recipe
  }

  /** The job's parts; undefined before they are known. */
  async plan(): Promise<Plan | undefined> {
    try {
      return JSON.parse(await readFile(join(this.path, PLAN_FILE), 'utf8')) as Plan
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** Fixes the job's parts; answers those that were fixed before, if any. */
  async fixPlan(plan: Plan): Promise<Plan> {
    await this.#write(PLAN_FILE, JSON.stringify(plan))
    return (await this.plan()) ?? plan
  }

  /** Path of a part's file. */
  partPath(part: number): string {
    return join(this.path, partFile(part))
  }

  /** Whether a part is written. */
  async hasPart(part: number): Promise<boolean> {
    return await access(this.partPath(part)).then(
      () => true,
      () => false,
    )
  }

  /** A path of its own for a part that is being written. */
  temporaryPath(part: number): string {
    return join(this.path, `.${partFile(part)}.${randomUUID()}.tmp`)
  }

  /** Gives a written part its name; false when another one has it already. */
  async commitPart(part: number, temporary: string): Promise<boolean> {
    return await nameOnce(temporary, this.partPath(part))
  }

  /** Writes the manifest, and takes away what was left half done. */
  async succeed(manifest: unknown): Promise<void> {
    await this.sweep()
    await rm(this.inputFolder, { recursive: true, force: true })
    await this.#write(SUCCESS_FILE, `${JSON.stringify(manifest, undefined, 2)}\n`)
  }

  /** Takes away what was left half done. */
  async sweep(): Promise<void> {
    const names = await readdir(this.path).catch(() => [])
    for (const name of names) if (unfinished.test(name)) await rm(join(this.path, name), { force: true })
  }

  /** Whether the only file is what an earlier try to create the same job has left. */
  async #isOf(names: readonly string[], { job }: Recipe): Promise<boolean> {
    if (names.length !== 1 || names[0] !== JOB_FILE) return false
    return (await this.recipe()).job === job
  }

  async #write(name: string, text: string): Promise<void> {
    const temporary = join(this.path, `.${name}.${randomUUID()}.tmp`)
    const file = await open(temporary, 'wx')
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await nameOnce(temporary, join(this.path, name))
  }
}

/** Gives a file a name that nothing else has; false, and the file is gone, when something has it. */
async function nameOnce(temporary: string, name: string): Promise<boolean> {
  try {
    await link(temporary, name)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') {
      await rm(temporary, { force: true })
      return false
    }
    // Storage without hard links: the last one that is given the name has it, which is as whole as the first.
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS' && code !== 'EMLINK') throw error
    await rename(temporary, name)
  }
  await rm(temporary, { force: true })
  await syncFolder(dirname(name))
  return true
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open a folder; there the file system journals names by itself.
  if (process.platform === 'win32') return
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

async function nearestFolder(path: string): Promise<string> {
  const parent = dirname(path)
  if (parent === path) return path
  return await access(parent).then(
    () => parent,
    () => nearestFolder(parent),
  )
}

function unusable(path: string, why: string, cause?: unknown): Failure {
  const message = `output_directory: ${path} ${why}`
  return new Failure(Code.FAILED_PRECONDITION, 'OUTPUT_DIRECTORY_UNUSABLE', message, {
    violations: [{ field: 'batch_job.output_directory', description: `${path} ${why}` }],
    cause,
  })
}
