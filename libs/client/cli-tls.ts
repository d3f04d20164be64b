/** How the CLI speaks with the services: in plain text, or by TLS as soon as anything of it is named. */
import { readFileSync } from 'node:fs'
import type { ClientTls } from '@slipway/rpc'
import { UsageError, type Words } from './command.ts'

/** The options for TLS. */
export const tlsOptions = {
  tls: { doc: 'speak TLS and trust the authorities of this system' },
  'tls-ca': { value: 'FILE', doc: 'speak TLS and trust these authorities (PEM); default $SLIPWAY_TLS_CA' },
  'tls-cert': { value: 'FILE', doc: 'certificate to show (PEM), for mutual TLS; default $SLIPWAY_TLS_CERT' },
  'tls-key': { value: 'FILE', doc: 'its private key (PEM); default $SLIPWAY_TLS_KEY' },
} as const

/** What a command line and its environment ask for; undefined is plain text. */
export function tlsOf(words: Words, env: Readonly<Record<string, string | undefined>>): ClientTls | undefined {
  const authorities = words.optional('tls-ca') ?? (env.SLIPWAY_TLS_CA || undefined)
  const certificate = words.optional('tls-cert') ?? (env.SLIPWAY_TLS_CERT || undefined)
  const key = words.optional('tls-key') ?? (env.SLIPWAY_TLS_KEY || undefined)
  if (!words.flag('tls') && authorities === undefined && certificate === undefined) return undefined
  if ((certificate === undefined) !== (key === undefined)) throw new UsageError('--tls-cert and --tls-key go together')
  return {
    ...(authorities === undefined ? {} : { authorities: readPem('--tls-ca', authorities) }),
    ...(certificate === undefined ? {} : { certificate: readPem('--tls-cert', certificate) }),
    ...(key === undefined ? {} : { key: readPem('--tls-key', key) }),
  }
}

function readPem(option: string, path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new UsageError(`${option} ${path} cannot be read: ${error instanceof Error ? error.message : error}`)
  }
}
