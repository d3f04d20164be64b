import { chown, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram, freePorts, Missing, run } from './process.ts'

/** A server of its own with an empty database. */
export interface RunningPostgres {
  /** `postgres://…`, of a user who may do everything. */
  readonly url: string
  /** What it is, for people. */
  readonly description: string
  stop(): Promise<void>
}

const user = 'slipway'
const debianDirectory = '/usr/lib/postgresql'

/** Starts PostgreSQL on loopback; as root it runs as the user `postgres`, because it refuses to run as root. */
export async function startPostgres(): Promise<RunningPostgres> {
  const directories = await debianDirectories()
  const initdb = findProgram('initdb', directories)
  const pgCtl = findProgram('pg_ctl', directories)
  const directory = await mkdtemp(join(tmpdir(), 'slipway-postgres-'))
  const asUser = await becomeOwner(directory)
  const [port = 0] = await freePorts(1)
  const data = join(directory, 'data')
  const stop = async (): Promise<void> => {
    await asUser(pgCtl, ['-D', data, '-m', 'immediate', '-w', 'stop']).catch(() => undefined)
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await asUser(initdb, ['-D', data, '-U', user, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'])
    const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''`
    await asUser(pgCtl, ['-D', data, '-w', '-t', '20', '-l', join(directory, 'log'), '-o', options, 'start'])
  } catch (error) {
    await stop()
    throw error
  }
  const version = (await run(pgCtl, ['--version'])).trim().replace(/^pg_ctl \(PostgreSQL\) /, '')
  return { url: `postgres://${user}@127.0.0.1:${port}/postgres`, description: `PostgreSQL ${version}`, stop }
}

/** Debian keeps the server's programs outside the path; the newest version comes first. */
async function debianDirectories(): Promise<string[]> {
  const versions = await readdir(debianDirectory).catch(() => [])
  return versions.toSorted((a, b) => Number(b) - Number(a)).map((version) => join(debianDirectory, version, 'bin'))
}

type Run = (program: string, args: readonly string[]) => Promise<string>

/** How to run a program as the owner of the folder. */
async function becomeOwner(directory: string): Promise<Run> {
  // pg_ctl leaves the server running: its own output must not be waited for.
  if (process.getuid?.() !== 0) return (program, args) => run(program, args)
  const ids = ['-u', '-g'].map(async (flag) => Number(await run('id', [flag, 'postgres'])))
  const [uid = 0, gid = 0] = await Promise.all(ids).catch(() => {
    throw new Missing('PostgreSQL refuses to run as root and there is no user postgres')
  })
  await chown(directory, uid, gid)
  const setpriv = findProgram('setpriv')
  const become = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups']
  return (program, args) => run(setpriv, [...become, program, ...args], { cwd: directory })
}
