import type { Http2Server, ServerHttp2Session } from 'node:http2'
import { constants } from 'node:http2'
import { Server as NetServer, type Socket } from 'node:net'

/** The highest stream number: a GOAWAY with it refuses nothing, it only asks the peer to open no more. */
const LAST_STREAM_ID = 2 ** 31 - 1
/**
 * Longest wait for peers to have seen that the server is going away. A call of a peer that is further away than this is
 * refused unseen, which every gRPC client sends elsewhere by itself; and Node.js does not tell of a peer that has gone.
 */
const ANNOUNCE_MS = 100
/** Between the GOAWAY and the ping: a peer on Node.js does not flush its answer to the two in one packet. */
const PING_DELAY_MS = 10

/** The connections of a server. */
export class Connections {
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #sockets = new Set<Socket>()
  readonly #listening = new Set<Http2Server>()

  /** Adds all connections of an HTTP/2 server, each until it closes. */
  watch(http2Server: Http2Server): void {
    this.#listening.add(http2Server)
    http2Server.on('session', (session) => keep(this.#sessions, session))
    http2Server.on('connection', (socket: Socket) => keep(this.#sockets, socket))
  }

  /** Accepts no more connections. An HTTP/2 server's own `close` would also close those that are there. */
  refuseNew(): void {
    for (const http2Server of this.#listening) NetServer.prototype.close.call(http2Server)
  }

  /**
   * Asks every peer to open no more calls here, and resolves when all have heard it: calls that were already on their
   * way have arrived by then, so that closing refuses none. Peers that do not answer are waited for as long as `limitMs`.
   */
  async announceEnd(limitMs: number): Promise<void> {
    const heard = [...this.#sessions].map((session) => announceEnd(session))
    if (heard.length === 0) return
    const late = Promise.withResolvers<void>()
    const timeout = setTimeout(late.resolve, Math.min(limitMs, ANNOUNCE_MS))
    await Promise.race([Promise.all(heard), late.promise])
    clearTimeout(timeout)
  }

  /** Cuts every connection, as a crash would: callers see UNAVAILABLE and not a cancellation. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}

function keep<T extends ServerHttp2Session | Socket>(set: Set<T>, connection: T): void {
  set.add(connection)
  connection.on('close', () => set.delete(connection))
}

/** Resolves when the peer says that it goes too, answers a ping that follows, or is gone. */
function announceEnd(session: ServerHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    if (session.closed || session.destroyed) {
      resolve()
      return
    }
    session.on('goaway', () => resolve())
    session.on('close', () => resolve())
    session.goaway(constants.NGHTTP2_NO_ERROR, LAST_STREAM_ID)
    setTimeout(() => {
      if (session.destroyed || !session.ping(() => resolve())) resolve()
    }, PING_DELAY_MS)
  })
}
