/**
 * Watches whether inference is there. When it comes (at start, or back after it was restarted) it is asked to hold every
 * version of every endpoint ready, and the router's health follows.
 */
import type { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { type Client, Failure, type RpcServer } from '@slipway/rpc'
import type { Logger } from '@slipway/telemetry'
import type { Deployment } from './deployment.ts'

/** What watching needs. */
export interface InferenceWatchOptions {
  readonly client: Pick<Client<typeof GRPCInferenceService>, 'serverReady'>
  readonly deployment: Pick<Deployment, 'reload'>
  readonly log: Logger
}

const INTERVAL_MS = 500
const TIMEOUT_MS = 2_000

/** Services whose health depends on inference. */
const DEPENDENT = ['', 'inference.GRPCInferenceService', 'slipway.routing.v1.PredictionService']

/** Watches until it is stopped. */
export class InferenceWatch {
  readonly #options: InferenceWatchOptions
  #timer: NodeJS.Timeout | undefined
  #isThere: boolean | undefined
  #isLoaded = false
  #health: RpcServer['health'] | undefined
  #looking: Promise<void> = Promise.resolve()
  readonly #stopping = new AbortController()

  constructor(options: InferenceWatchOptions) {
    this.#options = options
  }

  /** Whether inference was ready when it was last asked. */
  get isReady(): boolean {
    return this.#isThere === true
  }

  /** Inference may have been restarted: it is asked again for all versions. */
  suspect(): void {
    if (!this.#isLoaded) return
    this.#isLoaded = false
    this.#looking = this.#looking.then(async () => await this.#look())
  }

  /** Starts to watch. `health` is told, first that inference is not there. */
  start(health: RpcServer['health']): void {
    this.#health = health
    this.#tellHealth(false)
    this.#looking = this.#look()
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(async () => await this.#look())
    }, INTERVAL_MS)
  }

  /** Stops and waits until nothing is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopping.abort()
    await this.#looking
  }

  #tellHealth(isServing: boolean): void {
    for (const service of DEPENDENT) this.#health?.set(service, isServing)
  }

  async #look(): Promise<void> {
    const isThere = await this.#isInferenceReady()
    if (this.#stopping.signal.aborted) return
    if (isThere !== this.#isThere) {
      this.#options.log.info(isThere ? 'inference is there' : 'inference is away')
      this.#tellHealth(isThere)
      if (!isThere) this.#isLoaded = false
    }
    this.#isThere = isThere
    if (!isThere || this.#isLoaded) return
    try {
      await this.#options.deployment.reload()
      this.#isLoaded = true
    } catch (error) {
      this.#options.log.warn('inference does not hold all versions yet', { reason: Failure.from(error).reason, error })
    }
  }

  async #isInferenceReady(): Promise<boolean> {
    try {
      return (await this.#options.client.serverReady({}, { timeoutMs: TIMEOUT_MS, signal: this.#stopping.signal }))
        .ready
    } catch {
      return false
    }
  }
}
