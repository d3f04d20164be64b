import { join } from 'node:path'
import type { SettingsReader } from '@slipway/config'

/** Settings of batch jobs. */
export interface BatchJobSettings {
  /** Whether this server takes batch jobs and works on them. */
  readonly runsBatchJobs: boolean
  /** Parts that this replica works on at once, each with a reader process of its own. */
  readonly batchReaders: number
  /** Memory of one reader process. */
  readonly batchReaderBytes: number
  /** Folders in which input and output must lie; none: anywhere when the service listens on loopback only, nowhere otherwise. */
  readonly batchFolders: readonly string[]
}

/** Reads the settings of batch jobs. */
export function readBatchJobSettings(read: SettingsReader): BatchJobSettings {
  return {
    runsBatchJobs: read.boolean('SLIPWAY_INFERENCE_BATCH', {
      doc: 'whether batch jobs are taken and worked on',
      default: true,
    }),
    batchReaders: read.integer('SLIPWAY_INFERENCE_BATCH_READERS', {
      doc: 'parts of batch jobs that are worked on at once',
      default: 2,
      min: 1,
      max: 64,
    }),
    batchReaderBytes: read.bytes('SLIPWAY_INFERENCE_BATCH_READER_MEMORY', {
      doc: 'memory of the database of one reader of batch jobs',
      default: '512MiB',
      min: '128MiB',
    }),
    batchFolders: read.list('SLIPWAY_INFERENCE_BATCH_FOLDERS', {
      doc: 'folders, separated by commas, in which files of batch jobs must lie',
    }),
  }
}

/** The folders in which files may lie; undefined: anywhere. */
export function allowedFolders(settings: BatchJobSettings, isPrivate: boolean): readonly string[] | undefined {
  return settings.batchFolders.length === 0 && isPrivate ? undefined : settings.batchFolders
}

/** Where a replica keeps what it knows of jobs, and what its readers put aside. */
export function batchPaths(dataDirectory: string) {
  return { database: join(dataDirectory, 'batch-jobs.db'), temporary: join(dataDirectory, 'batch-temporary') }
}
