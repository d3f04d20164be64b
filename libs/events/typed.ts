/** Messages instead of bytes: what services publish and consume. */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import { injectTraceContext } from '@slipway/telemetry'
import type {
  EventBus,
  EventRecord,
  HandleContext,
  PublishOptions,
  ReceivedRecord,
  StartPosition,
  Subscription,
} from './bus.ts'
import { cloudEventHeaders } from './cloud-events.ts'
import { Poison } from './poison.ts'
import type { Topic } from './topics.ts'

/** A message and the record that carried it. */
export interface Event<S extends DescMessage> {
  readonly message: MessageShape<S>
  readonly record: ReceivedRecord
}

/** Where an event comes from. */
export interface EventOptions {
  /** URI reference of the publisher, default `/slipway`. */
  readonly source?: string
}

/** What to consume and how. */
export interface ConsumeOptions<S extends DescMessage> {
  readonly group: string
  readonly isTemporary?: boolean
  /** Default `earliest`. */
  readonly from?: StartPosition
  readonly maxBatchRecords?: number
  /** Does the effect of a batch; events may come again, so it is idempotent. */
  handle(events: readonly Event<S>[], context: HandleContext): Promise<void>
}

/** Encodes a message as a CloudEvent with the active trace context; its id and time stay with it from here on. */
export function encodeEvent<S extends DescMessage>(
  topic: Topic<S>,
  init: MessageInitShape<S>,
  options: EventOptions = {},
): EventRecord {
  const message = create(topic.schema, init)
  const headers = cloudEventHeaders(options.source ?? '/slipway', topic.schema.typeName, Date.now())
  injectTraceContext(headers)
  return { topic: topic.name, key: topic.key(message), value: toBinary(topic.schema, message), headers }
}

/** Publishes messages; resolved means durable. */
export async function publishTo<S extends DescMessage>(
  bus: EventBus,
  topic: Topic<S>,
  messages: readonly MessageInitShape<S>[],
  options: EventOptions & PublishOptions = {},
): Promise<void> {
  const records = messages.map((message) => encodeEvent(topic, message, options))
  await bus.publish(records, options)
}

/**
 * Consumes messages of one topic. A record that does not decode, or that the handler throws `Poison` for, is parked in
 * the dead-letter topic; after any other error the batch comes again, after a growing delay.
 */
export async function consume<S extends DescMessage>(
  bus: EventBus,
  topic: Topic<S>,
  options: ConsumeOptions<S>,
): Promise<Subscription> {
  const { handle, ...subscribe } = options
  return await bus.subscribe({
    ...subscribe,
    topics: [topic.name],
    handle: async (batch, context) => {
      await handle(
        batch.map((record) => decodeEvent(topic, record)),
        context,
      )
    },
  })
}

function decodeEvent<S extends DescMessage>(topic: Topic<S>, record: ReceivedRecord): Event<S> {
  try {
    return { message: fromBinary(topic.schema, record.value), record }
  } catch (cause) {
    throw new Poison(`not a ${topic.schema.typeName}: ${String(cause)}`, { record, cause })
  }
}
