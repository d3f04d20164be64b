/** A model in a loop without a server around it, on several threads: told the model first, then how long to run. */
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { FEATURES } from '../model.ts'
import { answerParent } from '../processes.ts'

interface Start {
  readonly model: string
  readonly threads: number
  readonly rows: number
}

if (isMainThread) {
  let workers: Worker[] = []
  answerParent(async (message) => {
    if ('model' in (message as object)) {
      const start = message as Start
      workers = Array.from({ length: start.threads }, () => new Worker(new URL(import.meta.url), { workerData: start }))
      await Promise.all(workers.map((worker) => once(worker, 'message')))
      return 'ready'
    }
    const { measureMs } = message as { measureMs: number }
    const answers = workers.map((worker) => once(worker, 'message'))
    for (const worker of workers) worker.postMessage(measureMs)
    const rates = (await Promise.all(answers)).map(([rowsPerSecond]) => rowsPerSecond as number)
    return rates.reduce((sum, rate) => sum + rate, 0)
  })
  process.send?.('started')
} else {
  const { model, rows } = workerData as Start
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1 }
  const session = await InferenceSession.create(Buffer.from(model, 'base64'), options)
  const values = new Float32Array(rows * FEATURES).fill(0.3)
  const run = () => session.run({ features: new Tensor('float32', values, [rows, FEATURES]) })
  for (let index = 0; index < 50; index++) await run()
  parentPort?.on('message', async (measureMs: number) => {
    const begunMs = performance.now()
    let runs = 0
    for (; performance.now() - begunMs < measureMs; runs++) await run()
    parentPort?.postMessage((runs * rows * 1000) / (performance.now() - begunMs))
  })
  parentPort?.postMessage('ready')
}
