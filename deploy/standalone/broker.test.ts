import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { assertBrokerAnswers } from './broker.ts'

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

async function listen(serve: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    closing.push(() => socket.destroy())
    serve(socket)
  }).listen(0, '127.0.0.1')
  closing.push(() => server.close())
  await once(server, 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('a broker repeats the correlation id of the question', async () => {
  const broker = await listen((socket) => {
    socket.on('data', (question) => {
      expect(question.readInt32BE(0)).toBe(question.length - 4)
      const answer = Buffer.alloc(14)
      answer.writeInt32BE(10, 0)
      answer.writeInt32BE(question.readInt32BE(8), 4)
      // A connection may bring an answer in pieces.
      socket.write(answer.subarray(0, 5))
      setImmediate(() => socket.write(answer.subarray(5)))
    })
  })
  await expect(assertBrokerAnswers(broker)).resolves.toBeUndefined()
})

test('nobody there is said with the address', async () => {
  await expect(assertBrokerAnswers('127.0.0.1:1')).rejects.toThrow(
    'no Kafka broker at 127.0.0.1:1 (--kafka): ECONNREFUSED',
  )
})

test('something else there is no broker', async () => {
  const web = await listen((socket) => void socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await expect(assertBrokerAnswers(web)).rejects.toThrow('what answers is no broker')
  const mute = await listen((socket) => void socket.on('data', () => socket.end()).resume())
  await expect(assertBrokerAnswers(mute)).rejects.toThrow('it closed the connection')
  const silent = await listen(() => undefined)
  await expect(assertBrokerAnswers(silent, 50)).rejects.toThrow('no answer within 0.05 s')
})
