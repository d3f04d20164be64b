/** What the feature store refuses, in one wording. */
import { Code, Failure } from '@slipway/rpc'

/** Throws NOT_FOUND. */
export function notFound(name: string): never {
  throw new Failure(Code.NOT_FOUND, 'NOT_FOUND', `there is no ${name}`, { metadata: { name } })
}

/** Gives what exists when the same is created again; throws ALREADY_EXISTS when it differs. */
export function sameOrTaken<T>(known: T, isSame: boolean, name: string): T {
  if (isSame) return known
  throw new Failure(Code.ALREADY_EXISTS, 'DEFINED_OTHERWISE', `${name} exists and is defined otherwise`, {
    metadata: { name },
  })
}

/** Throws ABORTED when an etag was given and is not the current one. */
export function checkEtag(name: string, current: string, given: string): void {
  if (given === '' || given === current) return
  const message = `${name} has changed: read it again and send its etag`
  throw new Failure(Code.ABORTED, 'STALE_ETAG', message, { metadata: { name, etag: current } })
}

/** The service stops before a call is done. */
export function stopped(): Failure {
  return new Failure(Code.UNAVAILABLE, 'STOPPING', 'the feature store stops; try again')
}

/** So much is being done already that more would only wait. */
export function busy(what: string, most: number, retryAfterMs: number): Failure {
  const message = `${most} ${what} are being made or wait already; try again later`
  return new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_AT_ONCE', message, { retryAfterMs })
}

/** Something cannot go while another thing needs it. */
export function inUse(name: string, user: string): Failure {
  return new Failure(Code.FAILED_PRECONDITION, 'IN_USE', `${name} is used by ${user}`, { metadata: { name, user } })
}

/** A change that would be another thing. */
export function unchangeable(name: string, rule: string): Failure {
  return new Failure(Code.FAILED_PRECONDITION, 'UNCHANGEABLE', `${name}: ${rule}; choose another name`, {
    metadata: { name },
  })
}
