/**
 * Posts results to those who asked for it, signed.
 *
 * 1. A result that was taken off the bus is on disk as a delivery first, and stays due until it was taken or given up.
 * 2. A delivery is taken when its target answers 2xx. Anything else, redirects included, is tried again after a growing
 *    delay, with the same `webhook-id`; 410 Gone and too many attempts give it up, and its result goes to the
 *    dead-letter topic.
 * 3. A target that is slow holds up nobody else for longer than its own timeout, and the bus not at all.
 */
import { fromBinary, toBinary, toJson } from '@bufbuild/protobuf'
import {
  consume,
  deadLetterHeader,
  deadLetterTopic,
  type EventBus,
  encodeEvent,
  type Subscription,
  topics,
} from '@slipway/events'
import { AsyncPredictionAnsweredSchema } from '@slipway/proto/slipway/events/v1/async_prediction'
import { logger } from '@slipway/telemetry'
import type { Kysely, Selectable } from 'kysely'
import type { Schema } from './schema.ts'
import { signatureHeaders } from './webhook-signature.ts'

/** What webhooks need from around them. */
export interface WebhooksOptions {
  readonly database: Kysely<Schema>
  readonly bus: EventBus
  readonly secret: string
  /** How long deliveries that ended are remembered. */
  readonly retentionMs: number
  /** Attempts after which a delivery is given up; default 12, about a day. */
  readonly maxAttempts?: number
  /** Delay after the first failure; doubles with each. Default 5 s. */
  readonly firstDelayMs?: number
}

type Delivery = Selectable<Schema['deliveries']>

const GROUP = 'slipway-inference-webhooks'
const EVENT_TYPE = 'slipway.async-prediction.answered'
const MAX_AT_ONCE = 8
const ATTEMPT_TIMEOUT_MS = 10_000
const MAX_DELAY_MS = 6 * 3_600_000
const POLL_MS = 1000
const MAX_ERROR_LENGTH = 300
const GONE = 410
const log = logger('slipway.inference')

/** See the top of this file. */
export class Webhooks {
  readonly #options: WebhooksOptions
  readonly #stopping = new AbortController()
  readonly #underWay = new Map<string, Promise<void>>()
  #subscription: Subscription | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: WebhooksOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { bus, database } = this.#options
    this.#subscription = await consume(bus, topics.asyncResults, {
      group: GROUP,
      handle: async (events) => {
        const due = events.filter(({ message }) => message.webhookUrl !== '')
        for (const { message } of due)
          await database
            .insertInto('deliveries')
            .values(rowOf(message))
            .onConflict((row) => row.doNothing())
            .execute()
        if (due.length > 0) this.#look()
      },
    })
    this.#look()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    clearTimeout(this.#timer)
    await this.#subscription?.stop()
    await Promise.allSettled(this.#underWay.values())
  }

  /** Where the delivery of a result stands, if this server has it. */
  async get(requestId: string): Promise<Delivery | undefined> {
    return await this.#options.database
      .selectFrom('deliveries')
      .selectAll()
      .where('request_id', '=', requestId)
      .executeTakeFirst()
  }

  #look(): void {
    clearTimeout(this.#timer)
    if (this.#stopping.signal.aborted) return
    this.#timer = setTimeout(() => this.#look(), POLL_MS).unref()
    this.#deliverDue().catch((error: unknown) => log.error('due webhooks cannot be read', { error }))
  }

  async #deliverDue(): Promise<void> {
    const { database, retentionMs } = this.#options
    const nowMs = Date.now()
    await database
      .deleteFrom('deliveries')
      .where('state', '!=', 'due')
      .where('ended_ms', '<', nowMs - retentionMs)
      .execute()
    const due = await database
      .selectFrom('deliveries')
      .selectAll()
      .where('state', '=', 'due')
      .where('due_ms', '<=', nowMs)
      .orderBy('due_ms')
      .limit(2 * MAX_AT_ONCE)
      .execute()
    for (const delivery of due) {
      if (this.#underWay.size >= MAX_AT_ONCE || this.#stopping.signal.aborted) return
      if (this.#underWay.has(delivery.request_id)) continue
      const attempt = this.#attempt(delivery)
        .catch((error: unknown) =>
          log.error('the end of a delivery cannot be noted', { request: delivery.request_id, error }),
        )
        .finally(() => {
          this.#underWay.delete(delivery.request_id)
          this.#look()
        })
      this.#underWay.set(delivery.request_id, attempt)
    }
  }

  async #attempt(delivery: Delivery): Promise<void> {
    const { maxAttempts = 12, firstDelayMs = 5000 } = this.#options
    const attempts = delivery.attempts + 1
    const { status, error } = await this.#post(delivery)
    if (this.#stopping.signal.aborted && status === undefined) return
    if (status !== undefined && status >= 200 && status < 300) {
      await this.#note(delivery, { attempts, state: 'delivered', ended_ms: Date.now(), last_error: '' })
      return
    }
    const lastError = (error ?? `the target answered ${status}`).slice(0, MAX_ERROR_LENGTH)
    if (status === GONE || attempts >= maxAttempts) {
      await this.#bury(delivery, lastError)
      await this.#note(delivery, { attempts, state: 'given-up', ended_ms: Date.now(), last_error: lastError })
      log.warn('a webhook was given up', { request: delivery.request_id, attempts, reason: lastError })
      return
    }
    const delayMs = Math.min(firstDelayMs * 2 ** (attempts - 1), MAX_DELAY_MS) * (0.75 + Math.random() / 2)
    await this.#note(delivery, { attempts, due_ms: Math.round(Date.now() + delayMs), last_error: lastError })
  }

  async #post(delivery: Delivery): Promise<{ readonly status?: number; readonly error?: string }> {
    const data = toJson(AsyncPredictionAnsweredSchema, fromBinary(AsyncPredictionAnsweredSchema, delivery.result))
    const body = JSON.stringify({ type: EVENT_TYPE, timestamp: new Date().toISOString(), data })
    const message = { id: delivery.request_id, timestamp: Math.floor(Date.now() / 1000), body }
    try {
      const response = await fetch(delivery.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...signatureHeaders(message, this.#options.secret) },
        body,
        redirect: 'manual',
        signal: AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(ATTEMPT_TIMEOUT_MS)]),
      })
      await response.body?.cancel()
      return { status: response.status }
    } catch (error) {
      const { message: text, cause } = error as Error
      return { error: cause instanceof Error ? cause.message : text }
    }
  }

  async #note({ request_id }: Delivery, change: Partial<Delivery>): Promise<void> {
    await this.#options.database.updateTable('deliveries').set(change).where('request_id', '=', request_id).execute()
  }

  async #bury({ result }: Delivery, reason: string): Promise<void> {
    const record = encodeEvent(topics.asyncResults, fromBinary(AsyncPredictionAnsweredSchema, result))
    const headers = {
      ...record.headers,
      [deadLetterHeader.reason]: reason,
      [deadLetterHeader.topic]: record.topic,
      [deadLetterHeader.group]: GROUP,
    }
    await this.#options.bus.publish([{ ...record, topic: deadLetterTopic(record.topic), headers }])
  }
}

function rowOf(message: Parameters<typeof toBinary<typeof AsyncPredictionAnsweredSchema>>[1]): Delivery {
  return {
    request_id: message.requestId,
    url: message.webhookUrl,
    result: toBinary(AsyncPredictionAnsweredSchema, message),
    attempts: 0,
    due_ms: Date.now(),
    state: 'due',
    ended_ms: null,
    last_error: '',
  }
}
