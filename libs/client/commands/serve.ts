/** `slipway serve`: an inference server over a folder, with no registry and no other service. */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type LoadedVersion, LoadState } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { tlsOf } from '../cli-tls.ts'
import { UsageError } from '../command.ts'
import { connect } from '../connect.ts'
import { type LogLine, startInference } from '../inference-process.ts'
import type { Command, Invocation } from '../invocation.ts'
import { shortName } from '../resource-name.ts'
import { bytesText, enumText, fields, styled, table } from '../terminal.ts'

/** The commands that serve. */
export const serveCommands: readonly Command[] = [
  {
    name: 'serve',
    summary: 'serve a folder of models, {model}/{version}/model.onnx, over gRPC and HTTP; Ctrl-C drains and ends it',
    arguments: [{ name: 'directory', doc: 'the folder; other files of a version lie beside its model.onnx' }],
    options: {
      'grpc-port': { value: 'PORT', doc: 'port of gRPC, 8001 unless given; 0: a free one' },
      'http-port': { value: 'PORT', doc: 'port of HTTP, 8000 unless given; 0: a free one; off: none' },
      host: { value: 'HOST', doc: 'where to listen, 127.0.0.1 unless given; beyond loopback it needs TLS' },
      watch: { doc: 'follow changes of the folder' },
      versions: { value: 'WHICH', values: ['latest', 'all'], doc: 'versions of each model, latest unless given' },
    },
    run: serve,
  },
]

const MAX_PORT = 65_535

async function serve(invocation: Invocation): Promise<void> {
  const { words, env, signal } = invocation
  const directory = resolve(words.text('directory'))
  await requireFolder(directory)
  const host = words.optional('host') ?? '127.0.0.1'
  const http = words.optional('http-port') ?? '8000'
  const listens = {
    SLIPWAY_LISTEN: listen(host, 'grpc-port', words.optional('grpc-port') ?? '8001'),
    SLIPWAY_INFERENCE_HTTP_LISTEN: http === 'off' ? 'off' : listen(host, 'http-port', http),
  }
  const ownData = env.SLIPWAY_DATA_DIR === undefined ? await mkdtemp(join(tmpdir(), 'slipway-serve-')) : undefined
  const settings = {
    ...env,
    ...listens,
    SLIPWAY_INFERENCE_MODEL_DIRECTORY: directory,
    SLIPWAY_INFERENCE_MODEL_VERSIONS: words.optional('versions') ?? 'latest',
    SLIPWAY_INFERENCE_MODEL_POLL: words.flag('watch') ? (env.SLIPWAY_INFERENCE_MODEL_POLL ?? '1s') : '0s',
    SLIPWAY_DATA_DIR: env.SLIPWAY_DATA_DIR ?? ownData,
    SLIPWAY_LOG_LEVEL: 'info',
  }
  try {
    const story = new Story(invocation, directory)
    const inference = startInference(settings, (line) => story.hear(line))
    const drain = (): void => inference.drain()
    if (signal.aborted) drain()
    signal.addEventListener('abort', drain, { once: true })
    const { code, said } = await inference.ended
    signal.removeEventListener('abort', drain)
    await story.told()
    if (code !== 0) throw new Error(reasonOf(said, settings))
    story.tell({ event: 'stopped' }, 'stopped: every call was answered')
  } finally {
    if (ownData !== undefined) await rm(ownData, { recursive: true, force: true })
  }
}

async function requireFolder(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => undefined)
  if (found === undefined) throw new UsageError(`${directory} is not there`)
  if (!found.isDirectory()) throw new UsageError(`${directory} is a file, not a folder of models`)
}

function listen(host: string, option: string, port: string): string {
  if (!/^\d{1,5}$/.test(port) || Number(port) > MAX_PORT)
    throw new UsageError(`--${option} ${port}: must be a port, 0 to ${MAX_PORT}`)
  return `${host.includes(':') ? `[${host}]` : host}:${Number(port)}`
}

/** Says what happens, in lines of text or of JSON. */
class Story {
  readonly #invocation: Invocation
  readonly #directory: string
  #address = ''
  #http = ''
  #telling: Promise<void> = Promise.resolve()
  /** Why each version could not be loaded, as it was told: one that is tried again and again is told once. */
  readonly #failures = new Map<string, string>()

  constructor(invocation: Invocation, directory: string) {
    this.#invocation = invocation
    this.#directory = directory
  }

  /** Says one thing. */
  tell(event: Readonly<Record<string, unknown>>, text: string): void {
    const { json, terminal } = this.#invocation
    terminal.out(json ? `${JSON.stringify(event)}\n` : `${text}\n`)
  }

  /** Resolves when everything that was heard has been told. */
  async told(): Promise<void> {
    await this.#telling
  }

  /** Hears a line of the service's log. */
  hear(line: LogLine): void {
    const { terminal } = this.#invocation
    const version = typeof line.version === 'string' ? shortName(line.version) : ''
    switch (line.message) {
      case 'the inference service answers':
        this.#address = String(line.address)
        this.#http = String(line.http)
        return
      case 'the models are loaded':
        this.#telling = this.#tellReady().catch((error: unknown) => terminal.err(`${String(error)}\n`))
        return
      case 'a version is loaded':
        this.#failures.delete(version)
        this.tell({ event: 'loaded', version, digest: line.digest, tookMs: line.tookMs }, `${version} is loaded`)
        return
      case 'a version could not be loaded': {
        const reason = reasonIn(line.error)
        if (this.#failures.get(version) === reason) return
        this.#failures.set(version, reason)
        const text = `${version} could not be loaded: ${reason}`
        this.tell({ event: 'failed', version, reason }, styled(terminal, 'red', text))
        return
      }
      case 'a version was let go':
        if (line.reason !== 'stopping')
          this.tell(
            { event: 'unloaded', version, reason: line.reason },
            `${version} was let go (${String(line.reason)})`,
          )
        return
      case 'the folder holds what is no model':
        terminal.err(`passed over: ${String(line.problem)}\n`)
        return
      default:
        if (line.level === 'warn' || line.level === 'error') terminal.err(`${line.message}: ${detailsOf(line)}\n`)
    }
  }

  async #tellReady(): Promise<void> {
    const { words, env } = this.#invocation
    const slipway = connect({ addresses: { inference: reachable(this.#address) }, tls: tlsOf(words, env) })
    try {
      const { versions } = await slipway.modelControl.listLoadedVersions({}, { timeoutMs: 10_000 })
      const served = versions.map((version) => ({
        version: shortName(version.name),
        state: enumText(LoadState, version.state),
        sizeBytes: Number(version.sizeBytes),
        digest: version.digest,
        message: version.message,
      }))
      const place = { directory: this.#directory, grpc: this.#address, http: this.#http }
      this.tell({ event: 'ready', ...place, versions: served }, this.#describe(versions))
    } finally {
      slipway.close()
    }
  }

  #describe(versions: readonly LoadedVersion[]): string {
    const rows = versions.map(({ name, state, sizeBytes, digest, message }) => {
      const [model = '', number = ''] = shortName(name).split('/')
      return [model, number, enumText(LoadState, state), bytesText(Number(sizeBytes)), digest.slice(0, 19), message]
    })
    const place = fields([
      ['serving', this.#directory],
      ['gRPC', this.#address],
      ['HTTP', this.#http === 'off' ? 'off' : `http://${this.#http}/v2`],
    ])
    return `\n${place}\n${table(['model', 'version', 'state', 'size', 'digest', ''], rows)}`
  }
}

/** An address that can be called, for one that stands for all of the machine's. */
function reachable(address: string): string {
  return address.replace(/^0\.0\.0\.0:/, '127.0.0.1:').replace(/^\[::\]:/, '[::1]:')
}

function reasonIn(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'message' in error) return String(error.message)
  return String(error)
}

function detailsOf({ time: _, level: __, scope: ___, message: ____, ...rest }: LogLine): string {
  return Object.entries(rest)
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ')
}

/** What is wrong with a setting, by its name; that of the folder is what the command was given. */
function problemIn(line: string): string | undefined {
  const [, name, problem] = /^ {2}(SLIPWAY_\w+): (.*) \(.*\)$/.exec(line) ?? []
  return name === 'SLIPWAY_INFERENCE_MODEL_DIRECTORY' ? problem : problem && `${name} ${problem}`
}

/** Why the service ended: what it says of its settings, a port that is taken, or its last words. */
function reasonOf(said: readonly string[], settings: Readonly<Record<string, string | undefined>>): string {
  const problems = said.flatMap((line) => problemIn(line) ?? [])
  if (problems.length > 0) return problems.join('; ')
  const taken = said.map((line) => /EADDRINUSE.*?(\S+:\d+)/.exec(line)?.[1]).find((address) => address !== undefined)
  if (taken !== undefined) return `${taken} is taken: choose another port`
  if (said.some((line) => line.includes('EADDRINUSE')))
    return `${settings.SLIPWAY_LISTEN} or ${settings.SLIPWAY_INFERENCE_HTTP_LISTEN} is taken: choose another port`
  return ['the inference service ended', ...said].join('\n')
}
