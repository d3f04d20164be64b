/** The paths of the protocol, and which call of the gRPC service each one is. */
import { create, type DescMessage, type JsonValue, type MessageInitShape } from '@bufbuild/protobuf'
import {
  ModelConfigRequestSchema,
  ModelConfigResponseSchema,
  ModelMetadataRequestSchema,
  ModelMetadataResponseSchema,
  ModelReadyRequestSchema,
  ModelStatisticsRequestSchema,
  ModelStatisticsResponseSchema,
  RepositoryIndexRequestSchema,
  RepositoryIndexResponseSchema,
  RepositoryModelLoadRequestSchema,
  RepositoryModelUnloadRequestSchema,
  ServerLiveRequestSchema,
  ServerMetadataRequestSchema,
  ServerMetadataResponseSchema,
  ServerReadyRequestSchema,
} from '@slipway/proto/inference/grpc_service'
import { invalid } from '../refusals.ts'
import type { DescribingHandlers } from '../service.ts'
import { httpRefusal } from './failures.ts'
import { type JsonObject, objectOf } from './json-text.ts'
import { messageJson } from './message-text.ts'

/** What a path names. */
export interface PathNames {
  readonly model: string
  readonly version: string
}

/** What is said to a question: a status, and a body unless it is empty. */
export interface Said {
  readonly status: number
  readonly json: JsonValue | undefined
}

/** One path and how it is answered. */
export type Route = {
  readonly verb: 'GET' | 'POST'
  /** Name of the call, as gRPC has it. */
  readonly call: string
} & (
  | { readonly kind: 'infer' }
  | {
      readonly kind: 'describe'
      readonly answer: (handlers: DescribingHandlers, names: PathNames, body: JsonObject) => Promise<Said>
    }
)

type Answer = (handlers: DescribingHandlers, names: PathNames, body: JsonObject) => Promise<Said>

const say = <S extends DescMessage>(schema: S, message: MessageInitShape<S>): Said => ({
  status: 200,
  json: messageJson(schema, message),
})
const sayWhether = (holds: boolean | undefined, json: JsonValue): Said => ({ status: holds ? 200 : 503, json })
const question = ({ model, version }: PathNames) => ({ name: model, version })

const answers = {
  async ServerLive(handlers) {
    const { live = false } = await handlers.serverLive(create(ServerLiveRequestSchema))
    return sayWhether(live, { live })
  },
  async ServerReady(handlers) {
    const { ready = false } = await handlers.serverReady(create(ServerReadyRequestSchema))
    return sayWhether(ready, { ready })
  },
  async ServerMetadata(handlers) {
    return say(ServerMetadataResponseSchema, await handlers.serverMetadata(create(ServerMetadataRequestSchema)))
  },
  async ModelReady(handlers, names) {
    const { ready = false } = await handlers.modelReady(create(ModelReadyRequestSchema, question(names)))
    return sayWhether(ready, { name: names.model, ready })
  },
  async ModelMetadata(handlers, names) {
    const request = create(ModelMetadataRequestSchema, question(names))
    return say(ModelMetadataResponseSchema, await handlers.modelMetadata(request))
  },
  async ModelConfig(handlers, names) {
    const response = await handlers.modelConfig(create(ModelConfigRequestSchema, question(names)))
    // The config alone is the body.
    const { config = null } = objectOf(messageJson(ModelConfigResponseSchema, response)) ?? {}
    return { status: 200, json: config as JsonValue }
  },
  async ModelStatistics(handlers, names) {
    const request = create(ModelStatisticsRequestSchema, question(names))
    return say(ModelStatisticsResponseSchema, await handlers.modelStatistics(request))
  },
  async RepositoryIndex(handlers, _names, body) {
    const ready = body.ready ?? false
    if (typeof ready !== 'boolean') throw invalid('ready', 'ready is neither true nor false')
    const response = await handlers.repositoryIndex(create(RepositoryIndexRequestSchema, { ready }))
    // The list alone is the body.
    const { models = [] } = objectOf(messageJson(RepositoryIndexResponseSchema, response)) ?? {}
    return { status: 200, json: models as JsonValue }
  },
  async RepositoryModelLoad(handlers, { model }, body) {
    const parameters = repositoryParameters(body)
    await handlers.repositoryModelLoad(create(RepositoryModelLoadRequestSchema, { modelName: model, parameters }))
    return { status: 200, json: undefined }
  },
  async RepositoryModelUnload(handlers, { model }, body) {
    const parameters = repositoryParameters(body)
    await handlers.repositoryModelUnload(create(RepositoryModelUnloadRequestSchema, { modelName: model, parameters }))
    return { status: 200, json: undefined }
  },
} satisfies Record<string, Answer>

type RepositoryParameters = NonNullable<MessageInitShape<typeof RepositoryModelLoadRequestSchema>['parameters']>

function repositoryParameters({ parameters: given = {} }: JsonObject): RepositoryParameters {
  const object = objectOf(given)
  if (object === undefined) throw invalid('parameters', 'parameters is not an object')
  const parameters: RepositoryParameters = {}
  for (const [key, value] of Object.entries(object)) {
    if (key === '__proto__') continue
    if (typeof value === 'boolean') parameters[key] = { parameterChoice: { case: 'boolParam', value } }
    else if (typeof value === 'string') parameters[key] = { parameterChoice: { case: 'stringParam', value } }
    else if (Number.isSafeInteger(value))
      parameters[key] = { parameterChoice: { case: 'int64Param', value: BigInt(value as number) } }
    else throw invalid('parameters', 'a parameter is not a string, an integer, true or false')
  }
  return parameters
}

const describe = (verb: 'GET' | 'POST', call: keyof typeof answers): Route => ({
  kind: 'describe',
  verb,
  call,
  answer: answers[call],
})

/** `{model}` and `{version}` stand for a name; the version may be left out together with the word before it. */
const table: readonly (readonly [path: string, route: Route])[] = [
  ['v2/models/{model}/versions/{version}/infer', { kind: 'infer', verb: 'POST', call: 'ModelInfer' }],
  ['v2', describe('GET', 'ServerMetadata')],
  ['v2/health/live', describe('GET', 'ServerLive')],
  ['v2/health/ready', describe('GET', 'ServerReady')],
  ['v2/models/stats', describe('GET', 'ModelStatistics')],
  ['v2/models/{model}/versions/{version}', describe('GET', 'ModelMetadata')],
  ['v2/models/{model}/versions/{version}/ready', describe('GET', 'ModelReady')],
  ['v2/models/{model}/versions/{version}/config', describe('GET', 'ModelConfig')],
  ['v2/models/{model}/versions/{version}/stats', describe('GET', 'ModelStatistics')],
  ['v2/repository/index', describe('POST', 'RepositoryIndex')],
  ['v2/repository/models/{model}/load', describe('POST', 'RepositoryModelLoad')],
  ['v2/repository/models/{model}/unload', describe('POST', 'RepositoryModelUnload')],
]

interface Pattern {
  readonly segments: readonly string[]
  readonly route: Route
}

const patterns: readonly Pattern[] = table.flatMap(([path, route]) =>
  [path, path.replace('/versions/{version}', '')]
    .filter((one, index, all) => all.indexOf(one) === index)
    .map((one) => ({ segments: one.split('/'), route })),
)

/** Finds what answers a request. Throws what is said where nothing does. */
export function findRoute(verb: string, url: string): { readonly route: Route; readonly names: PathNames } {
  const segments = segmentsOf(url)
  const pattern = patterns.find((candidate) => fits(candidate.segments, segments))
  if (pattern === undefined) throw httpRefusal.unknownPath()
  const allowed = pattern.route.verb === 'GET' ? ['GET', 'HEAD'] : ['POST']
  if (!allowed.includes(verb)) throw httpRefusal.wrongMethod(allowed.join(', '))
  const named = (name: string): string => segments[pattern.segments.indexOf(name)] ?? ''
  return { route: pattern.route, names: { model: named('{model}'), version: named('{version}') } }
}

function segmentsOf(url: string): readonly string[] {
  const end = url.indexOf('?')
  const path = (end < 0 ? url : url.slice(0, end)).replace(/^\//, '').replace(/\/$/, '')
  try {
    return path.split('/').map(decodeURIComponent)
  } catch {
    throw httpRefusal.badBody('the path is not percent-encoded UTF-8')
  }
}

function fits(pattern: readonly string[], segments: readonly string[]): boolean {
  if (pattern.length !== segments.length) return false
  return pattern.every((part, index) => (part.startsWith('{') ? segments[index] !== '' : part === segments[index]))
}
