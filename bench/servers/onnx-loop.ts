/** The other baseline: the model alone, run in a loop without a server around it. */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { benchModel, benchRows, FEATURES } from '../model.ts'
import { answerParent } from '../processes.ts'

const session = await InferenceSession.create(benchModel(), { intraOpNumThreads: 1, interOpNumThreads: 1 })

answerParent(async (message) => {
  const { rows, measureMs } = message as { rows: number; measureMs: number }
  const values = new Float32Array(benchRows(rows).buffer.slice(0, rows * FEATURES * 4))
  const run = () => session.run({ features: new Tensor('float32', values, [rows, FEATURES]) }, ['probability'])
  for (let index = 0; index < 200; index++) await run()
  const before = process.cpuUsage()
  const begunMs = performance.now()
  let calls = 0
  for (; performance.now() - begunMs < measureMs; calls++) await run()
  const { user, system } = process.cpuUsage(before)
  return { calls, seconds: (performance.now() - begunMs) / 1000, cpuMicros: user + system }
})
process.send?.('ready')
