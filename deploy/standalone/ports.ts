/** Whether the ports are free, asked before anything is started or moved. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { CannotStartError } from './cannot-start.ts'

/** Throws a CannotStartError that names each port that is taken, and who wants it: the addresses are by that name. */
export async function assertPortsFree(addresses: Readonly<Record<string, string>>): Promise<void> {
  const problems: string[] = []
  for (const [name, address] of Object.entries(addresses)) {
    const problem = await whyNot(address)
    if (problem !== undefined) problems.push(`${address} (${name}) ${problem}`)
  }
  if (problems.length === 0) return
  throw new CannotStartError(`${problems.join(', ')}; stop what runs there, or take other ports with --port-base N`)
}

async function whyNot(address: string): Promise<string | undefined> {
  const colon = address.lastIndexOf(':')
  const server = createServer()
  try {
    server.listen({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)), exclusive: true })
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EADDRINUSE' ? 'is in use' : `cannot be opened: ${code}`
  }
}
