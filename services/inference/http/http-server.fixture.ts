/** A server over HTTP beside one over gRPC, over the same models. */
import type { ModelInferResponse } from '@slipway/proto/inference/grpc_service'
import type { ServerTls } from '@slipway/rpc'
import { expect } from 'vitest'
import { createInference } from '../infer.ts'
import { createDescribingHandlers } from '../service.ts'
import { type ServeOptions, serve, type TestModel, type TestServer } from '../testing.ts'
import type { HttpLimits } from './limits.ts'
import { createHttpServer, type HttpServer } from './server.ts'

/** Waits for something to become so, as long as a busy machine may need. */
export function eventually<T>(probe: () => T) {
  return expect.poll(probe, { timeout: 15_000 })
}

/** Both servers, and how HTTP is asked. */
export interface HttpTestServer {
  readonly grpc: TestServer
  readonly http: HttpServer
  /** `http://host:port` */
  readonly url: string
  /** Failures that were the server's own. */
  readonly errors: readonly unknown[]
  get(path: string): Promise<HttpReply>
  post(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<HttpReply>
  stop(): Promise<void>
}

/** What came back. */
export interface HttpReply {
  readonly status: number
  readonly headers: Headers
  readonly bytes: Buffer
  readonly text: string
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown
}

/** What a test may want otherwise. */
export interface HttpServeOptions extends Omit<ServeOptions, 'limits'> {
  readonly limits?: Partial<HttpLimits>
  readonly tls?: ServerTls
  readonly isReady?: () => boolean
}

/** Serves models over both on free ports. */
export async function serveHttp(models: readonly TestModel[], change: HttpServeOptions = {}): Promise<HttpTestServer> {
  const { limits, tls, isReady = () => true, ...rest } = change
  const grpc = await serve(models, rest)
  const errors: unknown[] = []
  const { models: table, statistics } = grpc
  const http = createHttpServer({
    models: table,
    inference: createInference({ models: table, statistics }),
    describing: createDescribingHandlers({
      models: table,
      identity: { name: 'slipway', version: 'test' },
      isReady,
      execution: { maxBatchRows: 256, executorsPerVersion: 1 },
      statistics,
      ...(change.repository ? { repository: change.repository } : {}),
    }),
    listen: { host: '127.0.0.1', port: 0 },
    tls,
    ...(limits ? { limits } : {}),
    onError: (failure) => errors.push(failure),
  })
  const { address } = await http.start()
  const url = `http://${address}`
  return {
    grpc,
    http,
    url,
    errors,
    get: async (path) => reply(await fetch(`${url}${path}`)),
    post: async (path, body, headers = {}) => {
      const sent = typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body)
      return reply(
        await fetch(`${url}${path}`, {
          method: 'POST',
          body: typeof sent === 'string' ? sent : new Uint8Array(sent),
          headers,
        }),
      )
    },
    stop: async () => {
      await http.stop({ graceMs: 1000 })
      await grpc.stop()
    },
  }
}

async function reply(response: Response): Promise<HttpReply> {
  const bytes = Buffer.from(await response.arrayBuffer())
  const text = bytes.toString()
  return { status: response.status, headers: response.headers, bytes, text, json: jsonOf(text) }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A body with binary data behind its JSON, and the header that says so. */
export function binaryBody(json: unknown, ...tensors: readonly Uint8Array[]) {
  const head = Buffer.from(JSON.stringify(json))
  return {
    body: Buffer.concat([head, ...tensors]),
    headers: { 'Inference-Header-Content-Length': String(head.length) },
  }
}

/** JSON and binary data of an answer. */
export function splitReply({ bytes, headers }: HttpReply): { readonly json: unknown; readonly binary: Buffer } {
  const length = Number(headers.get('inference-header-content-length') ?? bytes.length)
  return { json: JSON.parse(bytes.toString('utf8', 0, length)), binary: bytes.subarray(length) }
}

/** The raw bytes of a gRPC answer's outputs, one after another. */
export function rawBytes({ rawOutputContents }: ModelInferResponse): Buffer {
  return Buffer.concat(rawOutputContents)
}
