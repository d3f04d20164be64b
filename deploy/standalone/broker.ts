/** Whether a Kafka broker answers, asked before anything is started: the services themselves wait for theirs for ever. */
import { connect } from 'node:net'
import { CannotStartError } from './cannot-start.ts'

const apiVersionsKey = 18
const correlationId = 7401
/** Length of the rest, ApiVersions, version 0, correlation id, no client id. */
const question = Buffer.alloc(14)
question.writeInt32BE(10, 0)
question.writeInt16BE(apiVersionsKey, 4)
question.writeInt32BE(correlationId, 8)
question.writeInt16BE(-1, 12)

/** Throws a CannotStartError when nothing that speaks Kafka answers at `host:port` in time. */
export async function assertBrokerAnswers(broker: string, withinMs = 10_000): Promise<void> {
  const problem = await ask(broker, withinMs)
  if (problem !== undefined) throw new CannotStartError(`no Kafka broker at ${broker} (--kafka): ${problem}`)
}

async function ask(broker: string, withinMs: number): Promise<string | undefined> {
  const colon = broker.lastIndexOf(':')
  const socket = connect({ host: broker.slice(0, colon), port: Number(broker.slice(colon + 1)) })
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const timer = setTimeout(() => resolve(`no answer within ${withinMs / 1000} s`), withinMs)
  let answer = Buffer.alloc(0)
  socket.once('connect', () => socket.write(question))
  socket.on('data', (chunk) => {
    answer = Buffer.concat([answer, chunk])
    if (answer.length >= 8) resolve(answer.readInt32BE(4) === correlationId ? undefined : 'what answers is no broker')
  })
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  socket.once('close', () => resolve('it closed the connection'))
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
}
