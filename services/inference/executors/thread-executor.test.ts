import { executorContract } from './executor.contract.ts'
import { createThreadExecutor } from './thread-executor.ts'

executorContract({
  start: createThreadExecutor(),
  startFragile: createThreadExecutor(new URL('./test-workers/fragile.ts', import.meta.url), { maxHeapMib: 64 }),
  deaths: ['throw', 'exit', 'exhaustHeap'],
})
