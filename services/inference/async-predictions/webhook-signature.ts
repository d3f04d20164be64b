/** Signatures of what is posted, as Standard Webhooks (standardwebhooks.com, version 1) have them. */
import { createHmac } from 'node:crypto'

const SECRET_PREFIX = 'whsec_'

/** What is signed. */
export interface SignedMessage {
  /** Names the message; the same in every attempt to deliver it. */
  readonly id: string
  /** When this attempt is made, seconds since the epoch. */
  readonly timestamp: number
  readonly body: string
}

/** The three headers that a signed message carries: HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`. */
export function signatureHeaders({ id, timestamp, body }: SignedMessage, secret: string): Record<string, string> {
  const signature = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest('base64')
  return { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': `v1,${signature}` }
}

function keyOf(secret: string): Buffer {
  return Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64')
}
