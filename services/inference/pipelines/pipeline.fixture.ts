/** Pipelines in memory for tests. */
import { createHash } from 'node:crypto'
import { Code, Failure } from '@slipway/rpc'
import type { RawTensor } from '../local-predictions.ts'
import type { VersionFiles } from '../model-source.ts'
import type { Servable } from '../servable.ts'
import type { RunOptions } from '../served-version.ts'
import { runOptions } from '../testing.ts'
import type { PipelineVersion } from './pipeline-version.ts'
import { type HoldVersion, startPipeline } from './start-pipeline.ts'

/** The files of a version that is a pipeline. */
export function pipelineFiles(
  pipeline: object,
  models: Readonly<Record<string, Uint8Array>> = {},
  model = 'pipeline',
): VersionFiles {
  const contents = new Map<string, Uint8Array>([
    ['pipeline.json', Buffer.from(JSON.stringify(pipeline))],
    ...Object.entries(models),
  ])
  const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  return {
    name: `models/${model}/versions/1`,
    model,
    number: '1',
    digest: digestOf(Buffer.from(model)),
    files: [...contents].map(([path, bytes]) => ({ path, sizeBytes: bytes.length, digest: digestOf(bytes) })),
    read: async (path) => {
      const bytes = contents.get(path)
      if (bytes === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_FILE', `there is no ${path}`)
      return bytes
    },
    layOut: async () => {
      throw new Error('not laid out')
    },
  }
}

/** Versions that a pipeline may pin, and how often each is held now. */
export function heldVersions(...versions: Servable[]): {
  readonly hold: HoldVersion
  readonly holds: Map<string, number>
} {
  const holds = new Map<string, number>()
  const hold: HoldVersion = async (name) => {
    const served = versions.find((version) => version.name === name)
    if (served === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_VERSION', `there is no ${name}`)
    holds.set(name, (holds.get(name) ?? 0) + 1)
    return { served, release: () => holds.set(name, (holds.get(name) ?? 0) - 1) }
  }
  return { hold, holds }
}

/** Starts a pipeline of files in memory. */
export function startTestPipeline(
  files: VersionFiles,
  change: { readonly run?: RunOptions; readonly hold?: HoldVersion } = {},
): Promise<PipelineVersion> {
  return startPipeline(files, { run: change.run ?? runOptions(), hold: change.hold ?? heldVersions().hold })
}

/** A tensor of FP32. */
export function floats(name: string, values: readonly number[], shape: readonly number[] = [values.length]): RawTensor {
  return { name, datatype: 'FP32', shape, bytes: Buffer.from(Float32Array.from(values).buffer) }
}

/** A tensor of texts. */
export function texts(name: string, values: readonly string[]): RawTensor {
  const pieces = values.map((value) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(Buffer.byteLength(value))
    return Buffer.concat([length, Buffer.from(value)])
  })
  return { name, datatype: 'BYTES', shape: [values.length], bytes: Buffer.concat(pieces) }
}

/** The values of a tensor of FP32. */
export function readFloats({ bytes }: RawTensor): number[] {
  return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(4 * index))
}

/** The values of a tensor of texts. */
export function readTexts({ bytes }: RawTensor): string[] {
  const found: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at)
    found.push(bytes.toString('utf8', at + 4, end))
    at = end
  }
  return found
}
