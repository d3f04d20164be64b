/** Fits and predicts on a thread of its own, so that the services beside it go on answering. */

import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import {
  type BoostedTrees,
  type BoostingOptions,
  fitBoostedTrees,
  type Matrix,
  predictBoostedTrees,
} from './boosting.ts'

/** What to fit, and the rows that the model answers then. */
export interface FitTask {
  readonly matrix: Matrix
  readonly labels: Uint8Array
  readonly options: Omit<BoostingOptions, 'onProgress'>
  readonly answer: Matrix
}

/** A model and its answers. */
export interface Fitted {
  readonly model: BoostedTrees
  readonly probabilities: Float64Array
}

type FitMessage = { readonly done: number } | Fitted

/** Fits as `fitBoostedTrees` does, and answers; `onProgress` is told the share done, 0 to 1. */
export async function fitOnThread(task: FitTask, onProgress: (done: number) => void): Promise<Fitted> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { fitFlights: task } })
  try {
    return await new Promise((resolve, reject) => {
      worker.on('message', (message: FitMessage) => {
        if ('model' in message) resolve(message)
        else onProgress(message.done)
      })
      worker.on('error', reject)
      worker.on('exit', (code) => reject(new Error(`the training thread ended early with code ${code}`)))
    })
  } finally {
    await worker.terminate()
  }
}

function taskOf(data: unknown): FitTask | undefined {
  if (typeof data !== 'object' || data === null || !('fitFlights' in data)) return undefined
  return data.fitFlights as FitTask
}

const task = isMainThread ? undefined : taskOf(workerData)
if (task !== undefined) {
  const post = (message: FitMessage) => parentPort?.postMessage(message)
  const { matrix, labels, options, answer } = task
  const model = fitBoostedTrees(matrix, labels, { ...options, onProgress: (done) => post({ done }) })
  post({ model, probabilities: predictBoostedTrees(model, answer) })
}
