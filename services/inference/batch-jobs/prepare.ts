/** From a job's input to its parts. */
import type { BatchJob } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { Failure } from '@slipway/rpc'
import { InputError } from './input-error.ts'
import { type Folders, findFiles } from './input-files.ts'
import type { OutputFolder } from './output-folder.ts'
import type { StageLog } from './prediction-log.ts'
import type { Reader } from './reader.ts'
import type { Plan } from './recipe.ts'

/** Cuts the input of a job into parts; what is an InputError will not get better. */
export type CutJob = (job: BatchJob, folder: OutputFolder, reader: Reader, signal: AbortSignal) => Promise<Plan>

/** Cuts files, and what the prediction log holds. */
export function createCutJob({
  folders,
  stageLog,
}: {
  readonly folders: Folders
  readonly stageLog: StageLog
}): CutJob {
  return async (job, folder, reader, signal) => {
    const recipe = await folder.recipe()
    if (job.input.case === 'predictionLog') return await stageLog(job, job.input.value, folder, recipe, signal)
    try {
      return await reader.run({ kind: 'cut', recipe, files: await findFiles(recipe.paths, folders) }, { signal })
    } catch (error) {
      if (error instanceof Failure && error.reason === 'INVALID_FIELD')
        throw new InputError(error.message, { cause: error })
      throw error
    }
  }
}
