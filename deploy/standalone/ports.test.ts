import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { CannotStartError } from './cannot-start.ts'
import { assertPortsFree } from './ports.ts'
import type { Addresses } from './system.ts'

test('each taken port is named with its service; free ones are not', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  const free = '127.0.0.1:0'
  const addresses: Addresses = {
    registry: free,
    'feature-store': `127.0.0.1:${port}`,
    inference: free,
    'traffic-router': free,
    'drift-monitor': `127.0.0.1:${port}`,
  }
  try {
    const asked = assertPortsFree(addresses)
    await expect(asked).rejects.toThrow(CannotStartError)
    await expect(asked).rejects.toThrow(
      `127.0.0.1:${port} (feature-store) is in use, 127.0.0.1:${port} (drift-monitor) is in use; stop`,
    )
  } finally {
    taken.close()
  }
  await expect(assertPortsFree(addresses)).resolves.toBeUndefined()
})
