/** Answers RoutingService: checks the request, has the change carried out, hands back the endpoint. */
import type { Endpoint } from '@slipway/proto/slipway/routing/v1/endpoint'
import type { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import { page, pageSizeOf, parsePageToken } from '@slipway/resources'
import { Code, Failure, type Handlers } from '@slipway/rpc'
import type { Deployment, EndpointEdit } from './deployment.ts'
import type { RoutingTable, ServedEndpoint } from './routing-table.ts'

/** What the service needs. */
export interface RoutingServiceOptions {
  readonly deployment: Deployment
  readonly table: RoutingTable
  /** Aborted when the server drains: watches end. */
  readonly draining: AbortSignal
}

/** Most watches at once. */
export const MAX_WATCHES = 256
const EDITABLE = [
  'description',
  'labels',
  'variants',
  'prediction_sampling_rate',
  'request_sampling_rate',
  'explain_sampling_rate',
] as const

/** The handlers of RoutingService. */
export function createRoutingService(options: RoutingServiceOptions): Handlers<typeof RoutingService> {
  const { deployment, table } = options
  let watches = 0
  return {
    async createEndpoint({ endpoint, requestId }) {
      if (endpoint === undefined) throw Failure.invalid('endpoint', 'is required')
      return await deployment.create(endpoint, requestId)
    },

    async getEndpoint({ name }) {
      return table.get(name).message
    },

    async listEndpoints({ pageSize, pageToken }) {
      const after = parsePageToken('endpoints', pageToken, '') ?? ''
      const rest = table.list().filter((each) => each.name > after)
      const { items, nextPageToken } = page('endpoints', rest, pageSizeOf(pageSize), ({ name }) => name)
      return { endpoints: items.map(({ message }) => message), nextPageToken }
    },

    async updateEndpoint({ endpoint, updateMask }) {
      if (endpoint === undefined) throw Failure.invalid('endpoint', 'is required')
      return await deployment.change(endpoint.name, endpoint.etag, editOf(endpoint, updateMask?.paths ?? []))
    },

    async deleteEndpoint({ name, etag }) {
      return await deployment.remove(name, etag)
    },

    async setTraffic({ name, etag, variants }) {
      return await deployment.change(name, etag, { variants })
    },

    async *watchEndpoints({ name }, context) {
      if (watches >= MAX_WATCHES)
        throw new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_WATCHES', `there are ${MAX_WATCHES} watches already`)
      watches++
      try {
        const ended = AbortSignal.any([context.signal, options.draining])
        for await (const { entry, deleted } of changes(table, ended)) {
          if (name === '' || entry.name === name) yield { endpoint: entry.message, deleted }
        }
      } finally {
        watches--
      }
    },
  }
}

/** The fields of an endpoint that a mask names; all of them when it names none. */
function editOf(endpoint: Endpoint, paths: readonly string[]): EndpointEdit {
  for (const path of paths) {
    if (!EDITABLE.some((field) => field === path))
      throw Failure.invalid('update_mask', `${path} cannot be changed; ${EDITABLE.join(', ')} can`)
  }
  const named = (field: (typeof EDITABLE)[number]): boolean => paths.length === 0 || paths.includes(field)
  return {
    ...(named('description') ? { description: endpoint.description } : {}),
    ...(named('labels') ? { labels: endpoint.labels } : {}),
    ...(named('variants') ? { variants: endpoint.variants } : {}),
    ...(named('prediction_sampling_rate') ? { predictionSamplingRate: endpoint.predictionSamplingRate ?? 1 } : {}),
    ...(named('request_sampling_rate') ? { requestSamplingRate: endpoint.requestSamplingRate ?? 0 } : {}),
    ...(named('explain_sampling_rate') ? { explainSamplingRate: endpoint.explainSamplingRate ?? 0 } : {}),
  }
}

/**
 * Every endpoint as it is, then each change. Of an endpoint that changes faster than the watcher reads only the newest
 * state is kept, so a slow watcher holds at most one entry an endpoint.
 */
async function* changes(
  table: RoutingTable,
  ended: AbortSignal,
): AsyncGenerator<{ entry: ServedEndpoint; deleted: boolean }> {
  const due = new Map(table.list().map((entry) => [entry.name, { entry, deleted: false }]))
  let wake = (): void => {}
  const stop = table.onChange((entry, deleted) => {
    due.delete(entry.name)
    due.set(entry.name, { entry, deleted })
    wake()
  })
  const onEnd = (): void => wake()
  ended.addEventListener('abort', onEnd)
  try {
    while (!ended.aborted) {
      const next = due.entries().next()
      if (next.done !== true) {
        due.delete(next.value[0])
        yield next.value[1]
        continue
      }
      await new Promise<void>((resolve) => {
        wake = resolve
        if (due.size > 0 || ended.aborted) resolve()
      })
    }
  } finally {
    stop()
    ended.removeEventListener('abort', onEnd)
  }
}
