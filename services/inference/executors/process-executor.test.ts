import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { executorContract, openExecutor } from './executor.contract.ts'
import { createProcessExecutor } from './process-executor.ts'
import { misdeed } from './test-workers/fragile-session.fixture.ts'

const script = new URL('./test-workers/fragile-process.ts', import.meta.url)

executorContract({
  start: createProcessExecutor(),
  startFragile: createProcessExecutor(script, { maxHeapMib: 64 }),
  deaths: ['throw', 'exit', 'exhaustHeap', 'abort', 'segfault'],
})

test('what killed the process is told', async () => {
  const { run, until, heard } = await openExecutor(createProcessExecutor(script, { maxHeapMib: 64 }))
  run([Buffer.of(misdeed.segfault)])
  await until(1)
  expect(heard[0]?.text).toBe('SIGSEGV')
})

test('a process that holds more memory than it may is told of after its batch, and goes on', async () => {
  const { executor, run, until, heard, worn } = await openExecutor(
    createProcessExecutor(script, { maxMemoryBytes: 200 * 1024 * 1024 }),
  )
  for (let batch = 1; worn.length === 0; batch++) {
    run([Buffer.of(misdeed.leak)])
    await until(batch)
    await sleep(60)
  }
  expect(worn[0]).toMatch(/more than 209715200/)
  expect(executor.memoryBytes).toBeGreaterThan(200 * 1024 * 1024)
  expect(heard.every(({ ending }) => ending === 'done')).toBe(true)
  await executor.close()
})

test.each(['waits', 'runs-for-ever'])(
  'a server that is killed while its model %s leaves no process behind',
  async (what) => {
    const server = fileURLToPath(new URL('./test-workers/killed-server.fixture.ts', import.meta.url))
    const parent = spawn(process.execPath, [server, what], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = (await once(parent.stdout, 'data')) as [Buffer]
    const processId = Number(line.toString())
    expect(isAlive(processId)).toBe(true)
    parent.kill('SIGKILL')
    while (isAlive(processId)) await sleep(10)
  },
)

/** A process that has ended and was not yet waited for is dead. */
function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0)
  } catch {
    return false
  }
  return !existsSync('/proc') || existsSync(`/proc/${processId}/exe`)
}
