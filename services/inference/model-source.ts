/** Where versions come from: a registry or a folder. What is common to them, and how files become a model that can be served. */
import { join } from 'node:path'
import { exampleFile } from '@slipway/models'
import { OnnxError, type OnnxModel, readModel } from '@slipway/onnx'
import { Failure } from '@slipway/rpc'
import type { GoldenExample } from './golden-example.ts'
import { refusal } from './refusals.ts'
import type { VerifiedModel } from './served-version.ts'
import { describeSignature } from './signature.ts'

const MODEL_FILE = 'model.onnx'
/** Largest file of a registered example. */
const MAX_EXAMPLE_BYTES = 16 * 1024 * 1024

/** One file of a version. */
export interface VersionFile {
  /** Within the version, with slashes. */
  readonly path: string
  readonly sizeBytes: number
  /** `sha256:{hex}`. */
  readonly digest: string
}

/** The files of a version. */
export interface Manifest {
  /** The version's digest, `sha256:{hex}`. */
  readonly digest: string
  readonly files: readonly VersionFile[]
}

/** A version and the way to its files. */
export interface VersionFiles extends Manifest {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  /** The version's number in decimal digits. */
  readonly number: string
  /** The bytes of a file, whose digest was checked in this very call. NOT_FOUND when the version has no such file. */
  read(path: string): Promise<Uint8Array>
  /** The folder in which all files lie, checked, where a model finds its weights. */
  layOut(): Promise<string>
}

/**
 * Finds versions. Promises:
 *
 * 1. No byte is given whose digest was not checked, and the digest of a version covers those of all its files.
 * 2. A version that was found once is found again without asking anybody else, as long as its files are on this machine.
 */
export interface ModelSource {
  /** A version's files. NOT_FOUND when there is none, DATA_LOSS when it is not what its digest was taken of. */
  files(name: string): Promise<VersionFiles>
  /** Bytes of a version's files, if that is known without waiting. */
  sizeBytes(name: string): number | undefined
  /** The version is not loaded any more: what was laid out for it may go. */
  letGo(name: string): Promise<void>
}

/** Splits `models/{model}/versions/{number}`. */
export function splitVersionName(name: string): { readonly model: string; readonly number: string } {
  const [, model, number] = /^models\/([^/]+)\/versions\/([1-9]\d*)$/.exec(name) ?? []
  if (model === undefined || number === undefined) throw Failure.invalid('name', `'${name}' names no version`)
  return { model, number }
}

/** Puts a version's name together. */
export function versionName(model: string, number: string): string {
  return `models/${model}/versions/${number}`
}

/** Bytes of all files. */
export function sizeOf(files: readonly VersionFile[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

/** The verified model among a version's files. FAILED_PRECONDITION when it is not one that can be served. */
export async function openModel(version: VersionFiles): Promise<VerifiedModel> {
  const { name, model, number, digest, files } = version
  if (hasFile(version, 'pipeline.json'))
    throw notServable(name, 'it is a pipeline: name one of the models of its steps')
  if (!hasFile(version, MODEL_FILE)) throw notServable(name, `it has no ${MODEL_FILE}`)
  const described = describe(name, await version.read(MODEL_FILE))
  const hasBf16 = [...described.inputs, ...described.outputs].some(({ datatype }) => datatype === 'BF16')
  if (hasBf16) throw notServable(name, 'its signature has BF16, which the runtime cannot carry')
  const missing = described.externalFiles.find((path) => !hasFile(version, path))
  if (missing !== undefined) throw notServable(name, `its weights are in ${missing}, which it has not`)
  const isOneFile = described.externalFiles.length === 0
  const example = await readExample(version)
  return {
    name,
    model,
    number,
    digest,
    sizeBytes: sizeOf(files),
    signature: describeSignature(described.inputs, described.outputs),
    read: isOneFile ? () => version.read(MODEL_FILE) : async () => join(await version.layOut(), MODEL_FILE),
    ...(example === undefined ? {} : { example }),
  }
}

/** The registered example, if there is one. FAILED_PRECONDITION when it is too large. */
export async function readExample(version: VersionFiles): Promise<GoldenExample | undefined> {
  if (!hasFile(version, exampleFile.request)) return undefined
  const tooLarge = version.files.find(({ path, sizeBytes }) => isExample(path) && sizeBytes > MAX_EXAMPLE_BYTES)
  if (tooLarge !== undefined)
    throw notServable(version.name, `${tooLarge.path} is larger than ${MAX_EXAMPLE_BYTES} bytes`)
  const request = await version.read(exampleFile.request)
  if (!hasFile(version, exampleFile.response)) return { request }
  return { request, response: await version.read(exampleFile.response) }
}

function isExample(path: string): boolean {
  return path === exampleFile.request || path === exampleFile.response
}

function hasFile({ files }: VersionFiles, path: string): boolean {
  return files.some((file) => file.path === path)
}

function describe(name: string, bytes: Uint8Array): OnnxModel {
  try {
    return readModel(bytes)
  } catch (cause) {
    if (cause instanceof OnnxError) throw notServable(name, cause.message, cause)
    throw cause
  }
}

function notServable(name: string, why: string, cause?: unknown): Failure {
  const { model, number } = splitVersionName(name)
  return refusal.loadFailed(model, number, why, cause)
}
