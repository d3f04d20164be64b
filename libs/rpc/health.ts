import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from '@slipway/proto/grpc/health/v1/health'
import { Code } from './code.ts'
import type { CallContext } from './context.ts'
import { Failure } from './failure.ts'
import { type Handlers, type Implementation, implement } from './implementation.ts'

const MAX_ECHOED_CHARACTERS = 120

/**
 * The health of a server's services, as grpc.health.v1 tells it.
 *
 * 1. Every service of the server has a status from the beginning; the empty name is the server as a whole.
 * 2. A watcher hears the present status at once and every later one that differs, the last one always.
 * 3. After `drain` everything is NOT_SERVING for ever, and the watches end once they have said so.
 */
export class Health {
  readonly #serving = new Map<string, boolean>()
  readonly #watchers = new Set<() => void>()
  #draining = false

  constructor(services: readonly string[]) {
    for (const service of ['', ...services]) this.#serving.set(service, true)
  }

  /** Sets whether a service takes calls. A name that the server does not have becomes known. */
  set(service: string, serving: boolean): void {
    if (this.#serving.get(service) === serving) return
    this.#serving.set(service, serving)
    this.#tell()
  }

  /** A name is not known any more; who watches it hears SERVICE_UNKNOWN. */
  forget(service: string): void {
    if (this.#serving.delete(service)) this.#tell()
  }

  /** Everything is NOT_SERVING from now on. */
  drain(): void {
    this.#draining = true
    this.#tell()
  }

  /** The status of a service. */
  status(service: string): Status {
    const serving = this.#serving.get(service)
    if (serving === undefined) return Status.SERVICE_UNKNOWN
    return serving && !this.#draining ? Status.SERVING : Status.NOT_SERVING
  }

  /** The grpc.health.v1 service. */
  implementation(): Implementation {
    return implement(HealthService, this.#handlers())
  }

  #handlers(): Handlers<typeof HealthService> {
    return {
      check: async ({ service }) => {
        const status = this.status(service)
        if (status !== Status.SERVICE_UNKNOWN) return { status }
        throw new Failure(
          Code.NOT_FOUND,
          'SERVICE_UNKNOWN',
          `there is no service ${service.slice(0, MAX_ECHOED_CHARACTERS)}`,
        )
      },
      list: async () => ({
        statuses: Object.fromEntries([...this.#serving.keys()].map((name) => [name, { status: this.status(name) }])),
      }),
      watch: (request, context) => this.#watch(request, context),
    }
  }

  async *#watch(
    { service }: HealthCheckRequest,
    context: CallContext,
  ): AsyncGenerator<Pick<HealthCheckResponse, 'status'>> {
    let told: Status | undefined
    while (!context.signal.aborted) {
      const status = this.status(service)
      if (status !== told) yield { status }
      told = status
      if (this.#draining) throw new Failure(Code.UNAVAILABLE, 'DRAINING', 'the server is draining')
      if (this.status(service) === told) await this.#change(context.signal)
    }
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#watchers.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#watchers.add(wake)
      signal.addEventListener('abort', wake)
    })
  }

  #tell(): void {
    for (const wake of [...this.#watchers]) wake()
  }
}
