import type { ServerHttp2Session } from 'node:http2'
import { constants } from 'node:http2'

/** The highest stream number: a GOAWAY with it refuses nothing, it only asks the peer to open no more. */
const LAST_STREAM_ID = 2 ** 31 - 1
/** Longest wait for peers to have seen that the server is going away. */
const ANNOUNCE_MS = 1000

/** The connections of a server. */
export class Sessions {
  readonly #sessions = new Set<ServerHttp2Session>()

  /** Adds a connection until it closes. */
  add(session: ServerHttp2Session): void {
    this.#sessions.add(session)
    session.on('close', () => this.#sessions.delete(session))
  }

  /**
   * Asks every peer to open no more calls here, and resolves when all have heard it: calls that were already on their
   * way have arrived by then, so that closing refuses none. Peers that do not answer are waited for as long as `limitMs`.
   */
  async announceEnd(limitMs: number): Promise<void> {
    const heard = [...this.#sessions].map((session) => announce(session))
    if (heard.length === 0) return
    const timer = Promise.withResolvers<void>()
    const timeout = setTimeout(timer.resolve, Math.min(limitMs, ANNOUNCE_MS))
    await Promise.race([Promise.all(heard), timer.promise])
    clearTimeout(timeout)
  }
}

function announce(session: ServerHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    if (session.closed || session.destroyed) {
      resolve()
      return
    }
    session.on('close', () => resolve())
    session.goaway(constants.NGHTTP2_NO_ERROR, LAST_STREAM_ID)
    session.ping(() => resolve())
  })
}
