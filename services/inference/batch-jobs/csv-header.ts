/** The header of a CSV file: the names of its columns. */
import { open } from 'node:fs/promises'
import { InputError } from './input-error.ts'

const MAX_HEADER_BYTES = 1024 * 1024

/** The names of a file's columns, and how its lines end. */
export interface CsvHeader {
  readonly names: readonly string[]
  readonly newline: '\n' | '\r\n'
}

/** Reads the first record of a file, RFC 4180; an InputError when it is none. */
export async function readCsvHeader(path: string): Promise<CsvHeader> {
  const file = await open(path, 'r')
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0)
    const { names, end } = parseRecord(buffer.toString('utf8', 0, bytesRead).replace(/^\uFEFF?(\r?\n)*/, '')) ?? {}
    if (names === undefined || (names.length === 1 && names[0] === ''))
      throw new InputError(`${path} has no header line`)
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    if (twice !== undefined) throw new InputError(`${path} has two columns ${twice}`)
    return { names, newline: end === '\r\n' ? end : '\n' }
  } finally {
    await file.close()
  }
}

/** The fields of the record that a text begins with; undefined when it does not end. */
function parseRecord(text: string): { names: string[]; end: string } | undefined {
  const fields: string[] = []
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y
  for (;;) {
    const found = field.exec(text)
    if (found === null) return undefined
    const [, inQuotes, plain = '', end = ''] = found
    fields.push(inQuotes === undefined ? plain : inQuotes.replaceAll('""', '"'))
    if (end !== ',') return { names: fields, end }
  }
}
