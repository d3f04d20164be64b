import { Failure } from '@slipway/rpc'

/** A version by model and number. */
export interface VersionKey {
  readonly modelId: string
  readonly number: number
}

/** An alias by model and its own name. */
export interface AliasKey {
  readonly modelId: string
  readonly alias: string
}

/** `models/{model}`. */
export function modelName(modelId: string): string {
  return `models/${modelId}`
}

/** `models/{model}/versions/{number}`. */
export function versionName(key: VersionKey): string {
  return `models/${key.modelId}/versions/${key.number}`
}

/** `models/{model}/aliases/{alias}`. */
export function aliasName(key: AliasKey): string {
  return `models/${key.modelId}/aliases/${key.alias}`
}

/** The id in `models/{model}`; INVALID_ARGUMENT on `field` for anything else. */
export function parseModelName(name: string, field: string): string {
  const modelId = /^models\/([a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)$/.exec(name)?.[1]
  if (modelId === undefined) throw Failure.invalid(field, 'must look like models/flight-delay')
  return modelId
}

/** The parts of `models/{model}/versions/{number}`; INVALID_ARGUMENT on `field` for anything else. */
export function parseVersionName(name: string, field: string): VersionKey {
  const [, modelId, digits] = /^models\/([a-z0-9-]+)\/versions\/([1-9][0-9]{0,14})$/.exec(name) ?? []
  if (modelId === undefined) throw Failure.invalid(field, 'must look like models/flight-delay/versions/7')
  return { modelId, number: Number(digits) }
}

/** The parts of `models/{model}/aliases/{alias}`; INVALID_ARGUMENT on `field` for anything else. */
export function parseAliasName(name: string, field: string): AliasKey {
  const [, modelId, alias] = /^models\/([a-z0-9-]+)\/aliases\/([a-z][a-z0-9-]{0,62})$/.exec(name) ?? []
  if (modelId === undefined || alias === undefined) {
    throw Failure.invalid(field, 'must look like models/flight-delay/aliases/champion')
  }
  return { modelId, alias }
}

/** Whether an alias of that name would look like something else: the newest version, or a number. */
export function isReservedAlias(alias: string): boolean {
  return alias === 'latest' || /^v?[0-9]+$/.test(alias)
}
