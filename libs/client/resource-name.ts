/** Resource names, and the short forms in which people write them. */

/** What a text can be short for. */
export interface VersionReference {
  /** A full resource name, or a digest. */
  readonly name: string
  readonly kind: 'version' | 'alias' | 'digest'
}

/** The text is not a name of the wanted kind; the message says how one is written. */
export class NameError extends Error {}

const id = '[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?'

/** `flights` or `models/flights` as `models/flights`. */
export function modelName(text: string): string {
  return collectionName('models', text)
}

/** `flight-delay` or `endpoints/flight-delay` as `endpoints/flight-delay`. */
export function endpointName(text: string): string {
  return collectionName('endpoints', text)
}

/** `flight-delay` or `monitors/flight-delay` as `monitors/flight-delay`. */
export function monitorName(text: string): string {
  return collectionName('monitors', text)
}

/** `flights/3` or `models/flights/versions/3` as the latter. */
export function versionName(text: string): string {
  const reference = versionReference(text)
  if (reference.kind === 'version') return reference.name
  throw new NameError(`${JSON.stringify(text)} is not a version: write it as flights/3 or models/flights/versions/3`)
}

/** `flights@champion` or `models/flights/aliases/champion` as the latter. */
export function aliasName(text: string): string {
  const reference = versionReference(text)
  if (reference.kind === 'alias') return reference.name
  throw new NameError(`${JSON.stringify(text)} is not an alias: write it as flights@champion`)
}

/** A version, an alias or a digest, in short or in full. */
export function versionReference(text: string): VersionReference {
  if (/^sha256:[0-9a-f]{64}$/.test(text)) return { kind: 'digest', name: text }
  const version = match(`(?:models/)?(${id})/(?:versions/)?v?([1-9][0-9]*)`, text)
  if (version !== undefined) return { kind: 'version', name: `models/${version[1]}/versions/${version[2]}` }
  const alias = match(`(?:models/)?(${id})(?:@|/aliases/)([a-z][a-z0-9-]*)`, text)
  if (alias !== undefined) return { kind: 'alias', name: `models/${alias[1]}/aliases/${alias[2]}` }
  throw new NameError(
    `${JSON.stringify(text)} names no version: write flights/3, flights@champion, or a digest sha256:…`,
  )
}

/** The incident's full name, from that or from `{monitor}/{incident}`. */
export function incidentName(text: string): string {
  const found = match(`(?:monitors/)?(${id})/(?:incidents/)?([A-Za-z0-9-]+)`, text)
  if (found !== undefined) return `monitors/${found[1]}/incidents/${found[2]}`
  throw new NameError(`${JSON.stringify(text)} is not an incident: write it as monitors/{monitor}/incidents/{incident}`)
}

/** The shortest way to write a resource name, for tables. */
export function shortName(name: string): string {
  return name
    .replace(/^models\/([^/]+)\/versions\//, '$1/')
    .replace(/^models\/([^/]+)\/aliases\//, '$1@')
    .replace(/^(models|endpoints|monitors)\//, '')
}

function collectionName(collection: string, text: string): string {
  const found = match(`(?:${collection}/)?(${id})`, text)
  if (found !== undefined) return `${collection}/${found[1]}`
  throw new NameError(
    `${JSON.stringify(text)} is not a name in ${collection}: lower-case letters, digits and hyphens, a letter first`,
  )
}

function match(pattern: string, text: string): RegExpExecArray | undefined {
  return new RegExp(`^${pattern}$`).exec(text) ?? undefined
}
