import { Code, Failure } from '@slipway/rpc'
import type { AsyncPredictionSettings } from './settings.ts'

const loopback = new Set(['localhost', '127.0.0.1', '[::1]'])

/**
 * Why results are not posted to an address; undefined when they are. Only hosts that the operator named are posted to, so
 * that nobody has the server call what only the server can reach; plain HTTP only on the machine itself.
 */
export function refuseWebhook(
  url: string,
  { webhookHosts, webhookSecret }: Pick<AsyncPredictionSettings, 'webhookHosts' | 'webhookSecret'>,
): Failure | undefined {
  const target = URL.parse(url)
  if (target === null) return notAllowed('is no URL')
  if (target.username !== '' || target.password !== '') return notAllowed('carries a user name or password')
  const isSafe = target.protocol === 'https:' || (target.protocol === 'http:' && loopback.has(target.hostname))
  if (!isSafe) return notAllowed('is neither https nor http on this machine')
  if (!webhookHosts.has(target.host)) return notAllowed('has a host that SLIPWAY_INFERENCE_WEBHOOK_HOSTS does not name')
  if (webhookSecret === undefined) return notAllowed('cannot be used: SLIPWAY_INFERENCE_WEBHOOK_SECRET is not set')
  return undefined
}

function notAllowed(why: string): Failure {
  const description = `webhook_url ${why}`
  return new Failure(Code.INVALID_ARGUMENT, 'WEBHOOK_NOT_ALLOWED', description, {
    violations: [{ field: 'webhook_url', description }],
  })
}
