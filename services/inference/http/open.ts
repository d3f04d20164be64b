import type { ServiceSettings } from '@slipway/service'
import { createHttpServer, type HttpServerOptions } from './server.ts'
import type { HttpSettings } from './settings.ts'

type Config = HttpSettings &
  Pick<ServiceSettings, 'insecureBehindMesh' | 'drainGraceMs'> & { readonly maxRequestBytes: number }

/** HTTP as the settings want it. */
export interface OpenHttp {
  /** Listens; resolves with where, or with `off`. */
  start(): Promise<string>
  stop(): Promise<void>
}

/** Makes the server that the settings describe, or what stands for none. */
export function openHttp(
  config: Config,
  deps: Pick<HttpServerOptions, 'models' | 'inference' | 'describing' | 'tls' | 'onError'>,
): OpenHttp {
  const { httpListen, maxRequestBytes } = config
  if (httpListen === undefined) return { start: async () => 'off', stop: async () => undefined }
  const server = createHttpServer({
    ...deps,
    listen: httpListen,
    behindMesh: config.insecureBehindMesh,
    limits: {
      maxRequestBytes,
      maxHeldBytes: Math.max(4 * maxRequestBytes, MIN_HELD_BYTES),
      maxJsonBytes: config.httpMaxJsonBytes,
      requestTimeoutMs: config.httpRequestTimeoutMs,
    },
  })
  return {
    async start() {
      try {
        return (await server.start()).address
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new Error(`HTTP cannot be listened for (SLIPWAY_INFERENCE_HTTP_LISTEN): ${why}`, { cause })
      }
    },
    stop: () => server.stop({ graceMs: config.drainGraceMs }),
  }
}

const MIN_HELD_BYTES = 256 * 1024 * 1024
