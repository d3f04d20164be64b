/** The process that makes the load: takes plans, answers `measure` when its measured time begins and ends, then the result. */
import { type LoadPlan, runLoad } from './load.ts'

process.on('message', (message) => {
  if (message === 'go') return
  void runLoad(message as LoadPlan, async () => {
    const goes = new Promise((resolve) => process.once('message', resolve))
    process.send?.('measure')
    await goes
  }).then((result) => process.send?.(result))
})
process.on('disconnect', () => process.exit(0))
