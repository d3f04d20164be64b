/**
 * Watches whether inference is there. When it comes (at start, or back after it was restarted) it is asked to hold every
 * version of every endpoint ready, and the router's health follows.
 *
 * 1. Health changes only when inference comes or goes; versions that do not load do not take the router out of service.
 * 2. After inference may have been restarted all versions are asked for again; those that fail, with growing pauses.
 */
import type { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import type { Client, Failure, RpcServer } from '@slipway/rpc'
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
const MAX_PAUSE_MS = 30_000

/** Services whose health depends on inference. */
const DEPENDENT = ['', 'inference.GRPCInferenceService', 'slipway.routing.v1.PredictionService']

/** Watches until it is stopped. */
export class InferenceWatch {
  readonly #options: InferenceWatchOptions
  readonly #stopping = new AbortController()
  #health: RpcServer['health'] | undefined
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()
  /** A look that has not begun: there is no need for another one. */
  #isPlanned = false
  #loading: Promise<void> | undefined
  #isThere: boolean | undefined
  #isLoaded = false
  /** Counts the times that inference may have lost its versions. */
  #losses = 0
  #pauseMs = INTERVAL_MS
  #loadAtMs = 0

  constructor(options: InferenceWatchOptions) {
    this.#options = options
  }

  /** Whether inference was ready when it was last asked. */
  get isReady(): boolean {
    return this.#isThere === true
  }

  /** Starts to watch. `health` is told, first that inference is not there. */
  start(health: RpcServer['health']): void {
    this.#health = health
    this.#tellHealth(false)
    this.#lookSoon()
    this.#timer = setInterval(() => this.#lookSoon(), INTERVAL_MS)
  }

  /** Inference may have been restarted: it is asked again for all versions. */
  suspect(): void {
    if (!this.#isLoaded) return
    this.#forget()
    this.#lookSoon()
  }

  /** Stops and waits until nothing is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopping.abort()
    await this.#looking
  }

  #lookSoon(): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    this.#looking = this.#looking.then(async () => {
      this.#isPlanned = false
      await this.#look()
    })
  }

  #tellHealth(isServing: boolean): void {
    for (const service of DEPENDENT) this.#health?.set(service, isServing)
  }

  #forget(): void {
    this.#isLoaded = false
    this.#losses++
    this.#pauseMs = INTERVAL_MS
    this.#loadAtMs = 0
  }

  async #look(): Promise<void> {
    const isThere = await this.#isInferenceReady()
    if (this.#stopping.signal.aborted) return
    if (isThere !== this.#isThere) {
      this.#options.log.info(isThere ? 'inference is there' : 'inference is away')
      this.#tellHealth(isThere)
      this.#forget()
    }
    this.#isThere = isThere
    if (!isThere || this.#isLoaded || this.#loading !== undefined || Date.now() < this.#loadAtMs) return
    this.#loading = this.#load().finally(() => {
      this.#loading = undefined
    })
  }

  async #load(): Promise<void> {
    const losses = this.#losses
    const failures = await this.#options.deployment.reload()
    if (losses !== this.#losses || this.#stopping.signal.aborted) return
    const [first] = failures
    this.#isLoaded = first === undefined
    if (first === undefined) return
    this.#loadAtMs = Date.now() + this.#pauseMs
    this.#pauseMs = Math.min(MAX_PAUSE_MS, this.#pauseMs * 2)
    this.#options.log.warn('inference does not hold all versions yet', summary(failures, first))
  }

  async #isInferenceReady(): Promise<boolean> {
    const options = { timeoutMs: TIMEOUT_MS, signal: this.#stopping.signal }
    return await this.#options.client.serverReady({}, options).then(
      ({ ready }) => ready,
      () => false,
    )
  }
}

function summary(failures: readonly Failure[], first: Failure): { count: number; reason: string; first: string } {
  return { count: failures.length, reason: first.reason, first: first.message }
}
