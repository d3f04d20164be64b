/** Fits the trees on a thread of their own, so that the services beside it go on answering. */

import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type BoostedTrees, type BoostingOptions, fitBoostedTrees, type Matrix } from './boosting.ts'

/** What crosses to the thread. */
interface FitTask {
  readonly fitFlights: true
  readonly matrix: Matrix
  readonly labels: Uint8Array
  readonly options: Omit<BoostingOptions, 'onProgress'>
}

type FitMessage = { readonly done: number } | { readonly model: BoostedTrees }

/** Fits as `fitBoostedTrees` does; `onProgress` is told the share done, 0 to 1. */
export async function fitOnThread(
  matrix: Matrix,
  labels: Uint8Array,
  options: Omit<BoostingOptions, 'onProgress'>,
  onProgress: (done: number) => void,
): Promise<BoostedTrees> {
  const task: FitTask = { fitFlights: true, matrix, labels, options }
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: task })
  try {
    return await new Promise((resolve, reject) => {
      worker.on('message', (message: FitMessage) => {
        if ('model' in message) resolve(message.model)
        else onProgress(message.done)
      })
      worker.on('error', reject)
      worker.on('exit', (code) => reject(new Error(`the training thread ended early with code ${code}`)))
    })
  } finally {
    await worker.terminate()
  }
}

function isFitTask(data: unknown): data is FitTask {
  return typeof data === 'object' && data !== null && 'fitFlights' in data
}

if (!isMainThread && isFitTask(workerData)) {
  const { matrix, labels, options } = workerData
  const post = (message: FitMessage) => parentPort?.postMessage(message)
  post({ model: fitBoostedTrees(matrix, labels, { ...options, onProgress: (done) => post({ done }) }) })
}
