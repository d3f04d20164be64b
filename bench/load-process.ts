/** The process that makes the load: takes plans, answers `measure` when its measured time begins and ends, then the result. */
import { type LoadPlan, runLoad } from './load.ts'
import { type OpenLoadPlan, runOpenLoad } from './open-load.ts'

process.on('message', (message) => {
  if (message === 'go') return
  const onMeasure = async (): Promise<void> => {
    const goes = new Promise((resolve) => process.once('message', resolve))
    process.send?.('measure')
    await goes
  }
  const plan = message as LoadPlan | OpenLoadPlan
  const load = plan.kind === 'open' ? runOpenLoad(plan, onMeasure) : runLoad(plan, onMeasure)
  void load.then((result) => process.send?.(result))
})
process.on('disconnect', () => process.exit(0))
