import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test, vi } from 'vitest'
import { watchPeakMemory } from './memory.ts'

test.skipIf(process.platform !== 'linux')('memory of a child counts', async () => {
  const memory = watchPeakMemory()
  const before = memory.peakBytes()
  const held = 200 * 2 ** 20
  const child = spawn(process.execPath, ['-e', `const b = Buffer.alloc(${held}, 1); setInterval(() => b[0], 1000)`])
  try {
    await vi.waitFor(() => expect(memory.peakBytes()).toBeGreaterThan(before + held / 2), { timeout: 15_000 })
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
    memory.stop()
  }
})
