import { logger } from '@slipway/telemetry'
import kafkajs, { type Kafka, type LogEntry } from 'kafkajs'
import { repairKafkajs } from './kafka-repair.ts'

const log = logger('slipway.events.kafka')

/** A kafkajs client with short retries: going on after them is the adapter's business. */
export function createKafkaClient(brokers: readonly string[], clientId: string): Kafka {
  repairKafkajs()
  return new kafkajs.Kafka({
    clientId,
    brokers: [...brokers],
    connectionTimeout: 3000,
    requestTimeout: 10_000,
    retry: { retries: 5, initialRetryTime: 50, maxRetryTime: 1000 },
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => write(entry),
  })
}

/** What kafkajs calls an error it mostly repairs by itself. */
function write({
  level,
  namespace,
  log: { message, logger: _logger, timestamp: _time, stack: _stack, ...fields },
}: LogEntry): void {
  const text = `${namespace}: ${message}`
  if (level <= kafkajs.logLevel.ERROR) log.warn('kafka client', { text, ...fields })
  else log.debug('kafka client', { text, ...fields })
}
