import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findProgram, Missing, run } from './process.ts'

/** Apache Kafka's version, as `kafka-pom.xml` has it. */
export const kafkaVersion = '4.3.1'

/** An installed Kafka. */
export interface KafkaInstallation {
  readonly java: string
  /** All jars in a fixed order, which the class archive is bound to. */
  readonly classPath: string
  /** Where the class archive is or will be. */
  readonly archivePath: string
}

/** Finds Kafka in the user's cache, or has Maven bring it there. Several processes may do so at once. */
export async function installKafka(): Promise<KafkaInstallation> {
  const java = findProgram('java')
  const directory = join(cacheDirectory(), `kafka-${kafkaVersion}`)
  if (!existsSync(directory)) await download(directory)
  const jars = (await readdir(directory)).filter((name) => name.endsWith('.jar')).toSorted()
  const classPath = jars.map((name) => join(directory, name)).join(':')
  return { java, classPath, archivePath: join(directory, `classes-${await javaVersion(java)}.jsa`) }
}

async function download(directory: string): Promise<void> {
  const maven = findProgram('mvn')
  const partial = `${directory}.${randomUUID()}`
  await mkdir(partial, { recursive: true })
  try {
    await copyFile(fileURLToPath(new URL('./kafka-pom.xml', import.meta.url)), join(partial, 'pom.xml'))
    const args = ['-B', '-ntp', '-q', 'dependency:copy-dependencies', `-DoutputDirectory=${partial}`]
    await run(maven, args, { cwd: partial, timeoutMs: 300_000 }).catch((error: unknown) => {
      throw new Missing(`Maven could not download Kafka ${kafkaVersion}: ${String(error).split('\n')[0]}`)
    })
    // Another process may have been faster: its result is as good.
    await rename(partial, directory).catch((error: unknown) => {
      if (!existsSync(directory)) throw error
    })
  } finally {
    await rm(partial, { recursive: true, force: true })
  }
}

async function javaVersion(java: string): Promise<string> {
  const text = await run(java, ['--version'])
  return text.split('\n')[0]?.replaceAll(/[^\w.]+/g, '-') ?? 'unknown'
}

function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'slipway')
}
