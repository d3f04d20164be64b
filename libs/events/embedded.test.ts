import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe } from 'vitest'
import { eventBusContract } from './contract.ts'
import { openEmbeddedBus } from './embedded.ts'

const directory = mkdtempSync(join(tmpdir(), 'slipway-events-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('the embedded bus keeps the promises of the port', () => {
  eventBusContract(() => ({ open: () => openEmbeddedBus({ path: join(directory, 'events.db'), leaseMs: 300 }) }))
})
