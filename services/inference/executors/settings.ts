import type { SettingsReader } from '@slipway/config'

/** Where models run. */
export interface ExecutorSettings {
  /** What models run in that are not named. */
  readonly executorKind: 'thread' | 'process'
  /** Models that run in processes whatever the kind, by name; `*` stands for any characters. */
  readonly processModels: readonly string[]
  /** Memory above which an executor's process is replaced; Infinity for no bound. */
  readonly maxProcessBytes: number
}

/** Reads the settings of executors. */
export function readExecutorSettings(read: SettingsReader): ExecutorSettings {
  const maxProcessBytes = read.bytes('SLIPWAY_INFERENCE_MAX_PROCESS_BYTES', {
    doc: "memory above which an executor's process is replaced after its batch; 0 for no bound",
    default: '0',
  })
  return {
    executorKind: read.choice('SLIPWAY_INFERENCE_EXECUTOR', {
      doc: 'what models run in: threads of the server, or processes of their own',
      values: ['thread', 'process'],
      default: 'thread',
    }),
    processModels: read.list('SLIPWAY_INFERENCE_PROCESS_MODELS', {
      doc: 'models that run in processes of their own, separated by commas; * stands for any characters',
    }),
    maxProcessBytes: maxProcessBytes === 0 ? Number.POSITIVE_INFINITY : maxProcessBytes,
  }
}
