/**
 * The Open Inference Protocol over HTTP/1.1.
 *
 * 1. A prediction goes the way of a unary gRPC call: same message, same checks, same queue. Only its form differs.
 * 2. While it stops, connections are refused, and calls in flight and on their way over open connections finish or are told that
 *    the server is stopping.
 * 3. What a request may be, hold and take is bounded by `HttpLimits`.
 */
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { Code, Failure, isLoopback, type ServerTls } from '@slipway/rpc'
import { context } from '@slipway/telemetry'
import type { Inference } from '../infer.ts'
import type { ModelTable } from '../model-table.ts'
import type { DescribingHandlers } from '../service.ts'
import { HeldBytes, type HeldShare, readBody } from './body.ts'
import { answerBrokenRequests } from './broken-requests.ts'
import { HttpCall } from './call.ts'
import { httpRefusal } from './failures.ts'
import { checkJsonForm } from './infer-answer.ts'
import { type AnswerForm, HEADER_LENGTH } from './infer-request.ts'
import { objectOf, parseJson } from './json-text.ts'
import { JsonWork } from './json-work.ts'
import { defaultHttpLimits, type HttpLimits } from './limits.ts'
import { findRoute, type PathNames, type Route } from './routes.ts'
import { type HttpCallRecord, isServersFault, recordHttpCall } from './telemetry.ts'

/** How an HTTP server is made. */
export interface HttpServerOptions {
  readonly models: ModelTable
  readonly inference: Inference
  readonly describing: DescribingHandlers
  /** Where to listen; port 0 is any free one. */
  readonly listen: { readonly host: string; readonly port: number }
  /** Without it the server speaks plain text, which it does on loopback only. */
  readonly tls?: ServerTls | undefined
  /** Says that a service mesh encrypts: plain text is then allowed on any host. */
  readonly behindMesh?: boolean
  readonly limits?: Partial<HttpLimits>
  /** Hears of every failure that is the server's fault, with its cause. */
  readonly onError?: (failure: Failure, context: { readonly method: string }) => void
}

/** A server of the protocol over HTTP. */
export interface HttpServer {
  /** Listens; resolves with where. */
  start(): Promise<{ readonly address: string }>
  /** Stops as promised above; after `graceMs` everything ends. Resolves when the port and all connections are closed. */
  stop(options?: { readonly graceMs?: number }): Promise<void>
}

/** How long an idle connection stays open when the server stops: a request may be on its way over it. */
const LINGER_MS = 100
/** How long the last bytes of an ended call may take to leave. */
const LAST_BYTES_MS = 100
/** How often connections are looked at that are too slow. */
const CHECK_CONNECTIONS_MS = 1000

/** Makes a server. Throws when it would speak plain text beyond loopback. */
export function createHttpServer(options: HttpServerOptions): HttpServer {
  if (options.tls === undefined && options.behindMesh !== true && !isLoopback(options.listen.host)) {
    const message = `plain text is for loopback: listening on ${options.listen.host} needs TLS, or a mesh that encrypts`
    throw new Failure(Code.FAILED_PRECONDITION, 'PLAIN_TEXT_REFUSED', message)
  }
  return new InferenceHttpServer(options)
}

class InferenceHttpServer implements HttpServer {
  readonly #options: HttpServerOptions
  readonly #limits: HttpLimits
  readonly #server: Server
  readonly #calls = new Set<HttpCall>()
  readonly #sockets = new Set<Socket>()
  readonly #held: HeldBytes
  readonly #json: JsonWork
  #stopped: Promise<void> | undefined

  constructor(options: HttpServerOptions) {
    this.#options = options
    this.#limits = { ...defaultHttpLimits, ...options.limits }
    this.#held = new HeldBytes(this.#limits.maxHeldBytes)
    this.#json = new JsonWork(this.#limits)
    this.#server = open(options.tls, this.#limits)
    this.#server.on('request', (request, response) => void this.#serve(request, response))
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      // A body that will not be taken is not asked for.
      if (Number(request.headers['content-length'] ?? 0) <= this.#limits.maxRequestBytes) response.writeContinue()
      void this.#serve(request, response)
    })
    this.#server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    answerBrokenRequests(this.#server)
  }

  start(): Promise<{ readonly address: string }> {
    const { host, port } = this.#options.listen
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host, port }, () => {
        this.#server.off('error', reject)
        const { port: bound } = this.#server.address() as AddressInfo
        resolve({ address: host.includes(':') ? `[${host}]:${bound}` : `${host}:${bound}` })
      })
    })
  }

  stop({ graceMs = this.#limits.drainGraceMs }: { readonly graceMs?: number } = {}): Promise<void> {
    this.#stopped ??= this.#stop(graceMs)
    return this.#stopped
  }

  async #stop(graceMs: number): Promise<void> {
    if (!this.#server.listening) return
    // What Node.js takes for idle has perhaps not sent all of its answer, and leaves out what never had a request.
    this.#server.closeIdleConnections = () => undefined
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    const linger = setTimeout(() => this.#closeIdle(this.#sockets), Math.min(graceMs, LINGER_MS))
    let last: NodeJS.Timeout | undefined
    const grace = setTimeout(() => {
      for (const call of this.#calls) call.cut()
      last = setTimeout(() => this.#server.closeAllConnections(), LAST_BYTES_MS)
    }, graceMs)
    await closed
    for (const timer of [linger, grace, last]) clearTimeout(timer)
    await this.#json.close()
  }

  #closeIdle(sockets: Iterable<Socket>): void {
    const busy = new Set([...this.#calls].map(({ socket }) => socket))
    for (const socket of sockets) if (!busy.has(socket)) socket.destroySoon()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const held = this.#held.share()
    let record: HttpCallRecord | undefined
    let method = 'unknown'
    const call = new HttpCall(request, response, {
      limits: this.#limits,
      isStopping: () => this.#stopped !== undefined,
      onSettled: (failure) => {
        record?.end(failure)
        if (failure !== undefined && isServersFault(failure)) this.#options.onError?.(failure, { method })
      },
      onClosed: () => {
        held.release()
        this.#calls.delete(call)
        if (this.#stopped !== undefined) this.#closeIdle([call.socket])
      },
    })
    this.#calls.add(call)
    try {
      if (request.method === 'POST' && isCrossSite(request)) throw httpRefusal.crossSite()
      const { route, names } = findRoute(request.method ?? '', request.url ?? '')
      method = route.call
      record = recordHttpCall(method, (name) => call.header(name))
      if (record === undefined) await this.#answer(call, request, route, names, held)
      else await context.with(record.context, () => this.#answer(call, request, route, names, held))
    } catch (error) {
      call.fail(error)
    }
  }

  async #answer(call: HttpCall, request: IncomingMessage, route: Route, names: PathNames, held: HeldShare) {
    const body = route.verb === 'POST' ? await readBody(request, this.#limits, held) : undefined
    if (route.kind === 'infer') {
      call.received()
      await this.#infer(call, names, body ?? Buffer.alloc(0))
      return
    }
    const { maxQuestionBytes } = this.#limits
    if (body !== undefined && body.length > maxQuestionBytes)
      throw httpRefusal.tooLarge('a body that asks for no prediction', maxQuestionBytes)
    const question = body === undefined || body.length === 0 ? {} : objectOf(parseJson(body))
    if (question === undefined) throw httpRefusal.badBody('the body is not a JSON object')
    const { status, json } = await route.answer(this.#options.describing, names, question)
    call.say(status, json === undefined ? undefined : JSON.stringify(json))
  }

  async #infer(call: HttpCall, names: PathNames, body: Buffer): Promise<void> {
    const request = await this.#json.read(names, body, call.header(HEADER_LENGTH), call)
    this.#refuseUnwritable(names, request.outputs, request.form)
    // The request itself is not kept for its answer.
    const { outputs, form } = request
    call.expect(names.model, request.timeoutMicros, (answer) => this.#json.write(answer, { outputs, form }, call))
    this.#options.inference.unary(request.message, call)
  }

  /** What could not be written is not computed, where that can be seen before: of a version that is there. */
  #refuseUnwritable({ model, version }: PathNames, outputs: readonly string[], form: AnswerForm): void {
    const served = this.#options.models.peek(model, version)
    if (served === undefined) return
    const wanted = served.signature.outputs.filter(({ name }) => outputs.length === 0 || outputs.includes(name))
    checkJsonForm(wanted, form)
  }
}

/** Browsers say so of themselves; without this any page could have a server on the reader's machine unload its models. */
function isCrossSite({ headers }: IncomingMessage): boolean {
  return headers['sec-fetch-site'] === 'cross-site' || headers['sec-fetch-site'] === 'same-site'
}

function open(tls: ServerTls | undefined, limits: HttpLimits): Server {
  const options: ServerOptions = {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: Math.min(limits.headerTimeoutMs, limits.requestTimeoutMs),
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: CHECK_CONNECTIONS_MS,
    noDelay: true,
  }
  const server = tls === undefined ? createServer(options) : createTlsServer({ ...options, ...tlsOptions(tls, limits) })
  server.maxConnections = limits.maxConnections
  return server
}

function tlsOptions({ certificate, key, clientAuthorities }: ServerTls, { headerTimeoutMs }: HttpLimits) {
  return {
    cert: certificate,
    key,
    handshakeTimeout: headerTimeoutMs,
    ...(clientAuthorities === undefined ? {} : { ca: clientAuthorities, requestCert: true, rejectUnauthorized: true }),
  }
}
