import { readFileSync } from 'node:fs'

/** What a server shows, and what it asks of its callers. */
export interface ServerTls {
  /** Certificate chain, PEM. */
  readonly certificate: string | Buffer
  /** Private key, PEM. */
  readonly key: string | Buffer
  /** Authorities, PEM. When given, every caller must show a certificate that one of them signed (mTLS). */
  readonly clientAuthorities?: string | Buffer
}

/** What a client trusts, and what it shows. */
export interface ClientTls {
  /** Authorities that the server's certificate is held against, PEM; those of the system when there are none. */
  readonly authorities?: string | Buffer
  /** Certificate chain that the client shows (mTLS), PEM. */
  readonly certificate?: string | Buffer
  /** Its private key, PEM. */
  readonly key?: string | Buffer
  /** Name that the server's certificate must have, where it is not the host of the address. */
  readonly serverName?: string
}

/** Paths of PEM files, as a service's settings name them. */
export interface TlsFiles {
  readonly certificate: string
  readonly key: string
  readonly authorities?: string | undefined
}

/** Reads the PEM files for both sides of a service: what its server shows and asks, and what its clients show and trust. */
export function readTlsFiles(files: TlsFiles): { server: ServerTls; client: ClientTls } {
  const certificate = readFileSync(files.certificate)
  const key = readFileSync(files.key)
  if (files.authorities === undefined) return { server: { certificate, key }, client: {} }
  const authorities = readFileSync(files.authorities)
  return { server: { certificate, key, clientAuthorities: authorities }, client: { authorities, certificate, key } }
}

/** Whether only this machine can reach a host. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
