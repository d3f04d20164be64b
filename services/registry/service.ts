import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { microsFromTimestamp } from '@slipway/resources'
import { type CallContext, Failure, type Handlers } from '@slipway/rpc'
import { type Aliases, aliasNotFound, resolveAlias } from './aliases.ts'
import type { Gates } from './gate.ts'
import type { Ledger } from './ledger.ts'
import type { Models } from './models.ts'
import { parseAliasName, parseVersionName } from './names.ts'
import type { Uploads } from './uploads.ts'
import type { Versions } from './versions.ts'
import { type WatchOptions, watch } from './watch.ts'

/** What the service answers from. */
export interface RegistryParts {
  readonly ledger: Ledger
  readonly models: Models
  readonly versions: Versions
  readonly aliases: Aliases
  readonly uploads: Uploads
  readonly gates: Gates
  readonly watch: WatchOptions
  /** Aborted when the service stops: watches end. */
  readonly stopping: AbortSignal
}

/** Header in which a caller says on whose behalf it acts; kept with every change. */
export const actorHeader = 'x-slipway-actor'

/** The handlers of the registry service. */
export function createRegistryService(parts: RegistryParts): Handlers<typeof RegistryService> {
  const { ledger, models, versions, aliases, uploads, gates } = parts
  return {
    createModel: async ({ model, requestId }, call) =>
      await models.create(required(model, 'model'), requestId, actorOf(call)),
    getModel: async ({ name }) => await models.get(name),
    listModels: async ({ pageSize, pageToken }) => await models.list(pageSize, pageToken),
    updateModel: async ({ model, updateMask }, call) =>
      await models.update(required(model, 'model'), updateMask?.paths ?? [], actorOf(call)),
    uploadFile: async (requests) => ({ upload: await uploads.receive(requests) }),
    getUpload: async ({ uploadId }) => await uploads.get(uploadId),
    downloadFile: (request) => uploads.download(request),
    createVersion: async (request, call) => await versions.create(request, actorOf(call)),
    getVersion: async ({ name }) => await getVersion(parts, name),
    listVersions: async ({ parent, pageSize, pageToken }) => await versions.list(parent, pageSize, pageToken),
    runGate: ({ name }, call) => gates.run(name, actorOf(call), AbortSignal.any([call.signal, parts.stopping])),
    recordServingProfile: async (request, call) => await versions.recordProfile(request, actorOf(call)),
    setAlias: async (request, call) => await aliases.set(request, actorOf(call)),
    getAlias: async ({ name }) => await aliases.get(name),
    getAliasAt: async ({ name, time }) => await aliases.getAt(name, microsFromTimestamp(required(time, 'time'))),
    listAliasHistory: async ({ name, pageSize, pageToken }) => await aliases.history(name, pageSize, pageToken),
    rollbackAlias: async (request, call) => await aliases.rollback(request, actorOf(call)),
    deleteAlias: async (request, call) => await aliases.remove(request, actorOf(call)),
    watch: ({ afterRevision }, call) => watch(ledger, afterRevision, parts.watch, call.signal, parts.stopping),
  }
}

async function getVersion({ ledger, versions }: RegistryParts, name: string) {
  if (name.startsWith('sha256:')) return await versions.getByDigest(name)
  if (!name.includes('/aliases/')) return await versions.get(parseVersionName(name, 'name'))
  const key = parseAliasName(name, 'name')
  const number = await resolveAlias(ledger.database, key)
  if (number === undefined) throw aliasNotFound(key)
  return await versions.get({ modelId: key.modelId, number })
}

function actorOf(call: CallContext): string {
  const named = call.header(actorHeader)?.slice(0, 256) ?? ''
  return named === '' ? call.peer : named
}

function required<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw Failure.invalid(field, 'is required')
  return value
}
