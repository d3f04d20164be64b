import type { SettingsReader } from '@slipway/config'
import type { VersionChoice } from './folder-wanted.ts'

/** Settings of where versions come from. */
export interface ModelSourceSettings {
  /** The registry, `host:port`. */
  readonly registryAddress: string
  /** Bytes of the registry's files kept on disk. */
  readonly maxCacheBytes: number
  /** A folder of models that is served instead of what a registry holds. */
  readonly modelDirectory: string | undefined
  /** How often that folder is looked at for changes; 0: never. */
  readonly modelPollMs: number
  /** Which versions of each model of the folder are served. */
  readonly modelVersions: VersionChoice
}

/** Reads them. */
export function readModelSourceSettings(read: SettingsReader): ModelSourceSettings {
  return {
    registryAddress: read.text('SLIPWAY_REGISTRY_ADDRESS', {
      doc: 'the registry, host:port',
      default: '127.0.0.1:7401',
    }),
    maxCacheBytes: read.bytes('SLIPWAY_INFERENCE_MAX_CACHE_BYTES', {
      doc: 'bytes of model files on disk',
      default: '10GiB',
    }),
    modelDirectory: read.optionalText('SLIPWAY_INFERENCE_MODEL_DIRECTORY', {
      doc: 'a folder {model}/{version}/model.onnx, served instead of a registry',
    }),
    modelPollMs: read.durationMs('SLIPWAY_INFERENCE_MODEL_POLL', {
      doc: 'how often that folder is looked at for changes; 0s: never',
      default: '0s',
    }),
    modelVersions: read.choice('SLIPWAY_INFERENCE_MODEL_VERSIONS', {
      values: ['latest', 'all'],
      doc: 'versions of each model of that folder',
      default: 'latest',
    }),
  }
}
