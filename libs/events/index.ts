/** The event bus: its port, two adapters, typed topics and the spooled producer. */
export type {
  EventBus,
  EventRecord,
  HandleContext,
  PublishOptions,
  ReceivedRecord,
  StartPosition,
  SubscribeOptions,
  Subscription,
  TopicSettings,
} from './bus.ts'
export { deadLetterTopic, limits, recordBytes } from './bus.ts'
export { cloudEventHeader, protobufContentType } from './cloud-events.ts'
export { type EmbeddedBusOptions, openEmbeddedBus } from './embedded.ts'
export { type KafkaBusOptions, openKafkaBus } from './kafka.ts'
export { isBusClosed } from './opened.ts'
export { deadLetterHeader, Poison } from './poison.ts'
export { openSpool, type SpoolCounts, type SpooledProducer, type SpoolOptions } from './spool.ts'
export type { SpoolSync } from './spool-files.ts'
export { type Topic, topics } from './topics.ts'
export { type ConsumeOptions, consume, type Event, type EventOptions, encodeEvent, publishTo } from './typed.ts'
