/** Ports for services under test. */
import { createServer } from 'node:net'

/** The first of six ports in a row that nobody listens on. */
export async function freePortBase(): Promise<number> {
  for (;;) {
    const base = 20_000 + Math.floor(Math.random() * 2_000) * 6
    const free = await Promise.all([0, 1, 2, 3, 4, 5].map((offset) => isFree(base + offset)))
    if (free.every(Boolean)) return base
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
