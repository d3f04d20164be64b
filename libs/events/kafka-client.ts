import { connect, type Socket } from 'node:net'
import { logger } from '@slipway/telemetry'
import kafkajs, { type Kafka, type LogEntry } from 'kafkajs'
import { repairKafkajs } from './kafka-repair.ts'

const log = logger('slipway.events.kafka')

const KEEP_ALIVE_MS = 60_000

/** A kafkajs client and the sockets that it opened. */
export interface KafkaClient {
  readonly kafka: Kafka
  /**
   * Closes all of its sockets and opens none any more. What still waits on one fails: by itself kafkajs waits for every
   * answer, that of a group that is being formed included, and connects again for whatever it tries after that.
   */
  end(): void
}

/** A kafkajs client with short retries: going on after them is the adapter's business. */
export function createKafkaClient(brokers: readonly string[], clientId: string): KafkaClient {
  repairKafkajs()
  const sockets = new Set<Socket>()
  let hasEnded = false
  const kafka = new kafkajs.Kafka({
    socketFactory: ({ host, port, onConnect }) => {
      if (hasEnded) throw clientEnded()
      const socket = connect({ host, port }, onConnect).setKeepAlive(true, KEEP_ALIVE_MS)
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      return socket
    },
    clientId,
    brokers: [...brokers],
    connectionTimeout: 3000,
    requestTimeout: 10_000,
    retry: { retries: 5, initialRetryTime: 50, maxRetryTime: 1000 },
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => {
      if (!hasEnded) write(entry)
    },
  })
  return {
    kafka,
    end: () => {
      hasEnded = true
      // Only an error, not an end, has kafkajs give up what waits.
      for (const socket of sockets) socket.destroy(clientEnded())
    },
  }
}

function clientEnded(): Error {
  return new Error('the kafka client has ended')
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
