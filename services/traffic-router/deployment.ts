/**
 * Changes of endpoints, each in one step.
 *
 * 1. A version gets traffic only after the registry said that its gate passed and inference said that it is ready.
 * 2. A change is durable before any request sees it, and requests see all of it at once.
 * 3. While the registry is away an endpoint's weights can still be moved between the versions that it already has.
 * 4. A variant that follows an alias changes its version when the alias moves; while it cannot (inference refuses, the
 *    alias is gone) it stays on the version it had and says why.
 */
import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { type Endpoint, EndpointSchema, type Variant } from '@slipway/proto/slipway/routing/v1/endpoint'
import { Code, Failure } from '@slipway/rpc'
import { type EndpointStore, staleFailure } from './endpoint-store.ts'
import { type RoutingTable, type ServedEndpoint, serveEndpoint } from './routing-table.ts'
import { allocated, checkVariants, etagOf, knownVersions, resolution } from './variants.ts'
import { isAway, requireDeployable, type VersionSource } from './versions.ts'

/** What changes of endpoints need. */
export interface DeploymentOptions {
  readonly store: EndpointStore
  readonly table: RoutingTable
  readonly source: VersionSource
  /** Whether a version needs a passed gate to get traffic. */
  readonly requireGate: boolean
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** The fields of an endpoint that its owner sets. */
export type EndpointEdit = Partial<
  Pick<Endpoint, 'description' | 'labels' | 'predictionSamplingRate' | 'requestSamplingRate' | 'explainSamplingRate'>
> & { readonly variants?: readonly Variant[] }

/** Most endpoints of one router. */
export const MAX_ENDPOINTS = 10_000
/** Most versions that inference is asked for at once. */
const MAX_CONCURRENT_LOADS = 4

/** Carries out changes of endpoints. */
export class Deployment {
  readonly #options: DeploymentOptions
  /** The last write; the next one waits for it. */
  #lastWrite: Promise<unknown> = Promise.resolve()

  constructor(options: DeploymentOptions) {
    this.#options = options
  }

  /** Puts everything that was kept into the routing table. */
  async restore(): Promise<void> {
    const { endpoints, versions } = await this.#options.store.load()
    const byName = new Map(versions.map((version) => [version.name, version]))
    for (const endpoint of endpoints) this.#options.table.put(serveEndpoint(endpoint, (name) => byName.get(name)))
  }

  /** Creates an endpoint; the same request id gives the endpoint that it made before. */
  async create(endpoint: Endpoint, requestId: string): Promise<Endpoint> {
    const made = await this.#createdBefore(endpoint.name, requestId)
    if (made !== undefined) return made
    if (this.#options.table.list().length >= MAX_ENDPOINTS)
      throw new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_ENDPOINTS', `there are ${MAX_ENDPOINTS} endpoints already`)
    checkVariants(endpoint.variants)
    const versions = await this.#prepare(endpoint.variants, undefined)
    const now = timestampFromMs(this.#options.now())
    const created = create(EndpointSchema, {
      ...endpoint,
      salt: endpoint.salt === '' ? endpoint.name : endpoint.salt,
      predictionSamplingRate: endpoint.predictionSamplingRate ?? 1,
      requestSamplingRate: endpoint.requestSamplingRate ?? 0,
      explainSamplingRate: endpoint.explainSamplingRate ?? 0,
      variants: allocated(endpoint.variants, [], versions),
      revision: 1n,
      etag: etagOf(1n, now),
      createTime: now,
      updateTime: now,
    })
    return await this.#write(async () => {
      const madeMeanwhile = await this.#createdBefore(endpoint.name, requestId)
      if (madeMeanwhile !== undefined) return madeMeanwhile
      await this.#options.store.insert(created, [...versions.values()], requestId)
      return this.#place(created, versions)
    })
  }

  /** The endpoint that an earlier request with this id made. ALREADY_EXISTS when it has another name. */
  async #createdBefore(name: string, requestId: string): Promise<Endpoint | undefined> {
    const made = requestId === '' ? undefined : await this.#options.store.createdBy(requestId)
    if (made === undefined) return undefined
    if (made === name) return this.#options.table.get(made).message
    throw new Failure(Code.ALREADY_EXISTS, 'REQUEST_ID_USED', `the request id made ${made}`, {
      metadata: { endpoint: made },
    })
  }

  /** Changes an endpoint; an empty etag means whatever it is now. */
  async change(name: string, etag: string, edit: EndpointEdit): Promise<Endpoint> {
    const seen = this.#options.table.get(name)
    if (etag !== '' && etag !== seen.message.etag) throw staleFailure(name)
    if (edit.variants !== undefined) checkVariants(edit.variants)
    const versions = edit.variants === undefined ? knownVersions(seen) : await this.#prepare(edit.variants, seen)
    return await this.#commit(name, (current) => {
      if (etag !== '' && etag !== current.message.etag) throw staleFailure(name)
      const revision = current.message.revision + 1n
      const { variants, ...fields } = edit
      const changed = create(EndpointSchema, {
        ...current.message,
        ...fields,
        ...(variants === undefined ? {} : { variants: allocated(variants, current.message.variants, versions) }),
        revision,
        etag: etagOf(revision, current.message.createTime),
        updateTime: timestampFromMs(this.#options.now()),
      })
      return { changed, versions: variants === undefined ? knownVersions(current) : versions }
    })
  }

  /** Removes an endpoint; an empty etag means whatever it is now. */
  async remove(name: string, etag: string): Promise<Endpoint> {
    return await this.#write(async () => {
      const { message } = this.#options.table.get(name)
      if (etag !== '' && etag !== message.etag) throw staleFailure(name)
      await this.#options.store.remove(name, message.revision)
      this.#options.table.remove(name)
      return message
    })
  }

  /** Brings every variant that follows an alias to the version that the alias names now. Throws when it cannot. */
  async follow(alias: string): Promise<void> {
    if (this.#followers(alias).length === 0) return
    try {
      const version = await this.#options.source.resolve(alias)
      if (this.#options.requireGate) requireDeployable(version)
      await this.#options.source.load(version)
      const settled = (variant: Variant): boolean => variant.digest === version.digest && variant.problem === ''
      for (const name of this.#followers(alias, settled)) await this.#move(name, alias, version)
    } catch (error) {
      const problem = Failure.from(error).message
      if (!isAway(error))
        for (const name of this.#followers(alias, (each) => each.problem === problem))
          await this.#note(name, alias, problem)
      throw error
    }
  }

  /**
   * Asks inference to hold every version ready that an endpoint names: after either of the two was restarted. Returns
   * why some could not be loaded.
   */
  async reload(): Promise<Failure[]> {
    const versions = new Map<string, ModelVersion>()
    for (const endpoint of this.#options.table.list()) {
      for (const variant of endpoint.variants) versions.set(variant.modelVersion, variant.version)
    }
    const failures: Failure[] = []
    const waiting = versions.values()
    const loader = async (): Promise<void> => {
      for (const version of waiting) {
        await this.#options.source.load(version).catch((error: unknown) => failures.push(Failure.from(error)))
      }
    }
    await Promise.all(Array.from({ length: MAX_CONCURRENT_LOADS }, loader))
    return failures
  }

  /** Names of the endpoints with a variant that follows an alias, without those whose variants are settled. */
  #followers(alias: string, isSettled: (variant: Variant) => boolean = () => false): string[] {
    const follows = (variant: Variant): boolean => variant.target === alias && !isSettled(variant)
    return this.#options.table.list().flatMap((each) => (each.message.variants.some(follows) ? [each.name] : []))
  }

  /** Resolves what the variants name, checks it and has it loaded. The result is by target. */
  async #prepare(variants: readonly Variant[], seen: ServedEndpoint | undefined): Promise<Map<string, ModelVersion>> {
    const versions = new Map<string, ModelVersion>()
    await Promise.all(
      variants.map(async (variant) => {
        const version = await this.#resolve(variant.target, seen)
        if (this.#options.requireGate && variant.weightBasisPoints > 0) requireDeployable(version)
        await this.#load(version, seen)
        versions.set(variant.target, version)
      }),
    )
    return versions
  }

  async #resolve(target: string, seen: ServedEndpoint | undefined): Promise<ModelVersion> {
    try {
      return await this.#options.source.resolve(target)
    } catch (error) {
      const known = seen === undefined ? undefined : knownVersions(seen).get(target)
      if (known === undefined || !isAway(error)) throw error
      return known
    }
  }

  /** Inference that is away cannot stop a change between versions that it held before: rolling back must work. */
  async #load(version: ModelVersion, seen: ServedEndpoint | undefined): Promise<void> {
    try {
      await this.#options.source.load(version)
    } catch (error) {
      const isServed = seen?.variants.some((variant) => variant.digest === version.digest) ?? false
      if (!isServed || !isAway(error)) throw error
    }
  }

  async #move(name: string, alias: string, version: ModelVersion): Promise<void> {
    await this.#resolveVariants(
      name,
      alias,
      (variant) => ({ ...variant, ...resolution(version), problem: '' }),
      version,
    )
  }

  async #note(name: string, alias: string, problem: string): Promise<void> {
    await this.#resolveVariants(name, alias, (variant) => ({ ...variant, problem }))
  }

  /** Changes what the router itself says about variants; the etag stays, since the owner's wishes did not change. */
  async #resolveVariants(
    name: string,
    alias: string,
    edit: (variant: Variant) => Variant,
    version?: ModelVersion,
  ): Promise<void> {
    await this.#commit(name, (current) => {
      const versions = knownVersions(current)
      if (version !== undefined) versions.set(alias, version)
      const variants = current.message.variants.map((each) => (each.target === alias ? edit(each) : each))
      const revision = current.message.revision + 1n
      return { changed: create(EndpointSchema, { ...current.message, variants, revision }), versions }
    })
  }

  async #commit(
    name: string,
    edit: (current: ServedEndpoint) => { changed: Endpoint; versions: Map<string, ModelVersion> },
  ): Promise<Endpoint> {
    return await this.#write(async () => {
      const current = this.#options.table.get(name)
      const { changed, versions } = edit(current)
      await this.#options.store.replace(changed, [...versions.values()], current.message.revision)
      return this.#place(changed, versions)
    })
  }

  #place(endpoint: Endpoint, versions: ReadonlyMap<string, ModelVersion>): Endpoint {
    const byName = new Map([...versions.values()].map((version) => [version.name, version]))
    this.#options.table.put(serveEndpoint(endpoint, (name) => byName.get(name)))
    return endpoint
  }

  /** One write after the other, so that each sees what the one before it did. */
  async #write<T>(part: () => Promise<T>): Promise<T> {
    const result = this.#lastWrite.then(part)
    this.#lastWrite = result.catch(() => undefined)
    return await result
  }
}
