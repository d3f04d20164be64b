import { connect, createServer, type Socket } from 'node:net'

const produceApiKey = 0

/** A TCP proxy that knows a little of Kafka's protocol. */
export interface KafkaProxy {
  readonly port: number
  /** Sets where connections lead. */
  target(port: number): void
  /** Lets the next answers to Produce requests vanish, with their connections, after the broker did its work. */
  cutAnswers(count: number): void
  /** Answers that were cut so far. */
  readonly cut: number
  close(): Promise<void>
}

/** Starts a proxy on a free port of loopback. */
export async function startKafkaProxy(): Promise<KafkaProxy> {
  let targetPort = 0
  let toCut = 0
  let cut = 0
  const sockets = new Set<Socket>()

  const server = createServer((client) => {
    const broker = connect({ host: '127.0.0.1', port: targetPort })
    const produces = new Set<number>()
    for (const socket of [client, broker]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        broker.destroy()
      })
    }
    // A request: size, API key (i16), version (i16), correlation id (i32); an answer: size, correlation id.
    onFrames(client, (frame) => {
      if (frame.readInt16BE(4) === produceApiKey) produces.add(frame.readInt32BE(8))
      broker.write(frame)
    })
    onFrames(broker, (frame) => {
      if (produces.delete(frame.readInt32BE(4)) && toCut > 0) {
        toCut -= 1
        cut += 1
        client.destroy()
      } else client.write(frame)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()

  return {
    port: address !== null && typeof address === 'object' ? address.port : 0,
    target: (port) => {
      targetPort = port
    },
    cutAnswers: (count) => {
      toCut = count
    },
    get cut() {
      return cut
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}

function onFrames(socket: Socket, listener: (frame: Buffer) => void): void {
  let rest = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE(0)) {
      const end = 4 + rest.readInt32BE(0)
      listener(rest.subarray(0, end))
      rest = rest.subarray(end)
    }
  })
}
