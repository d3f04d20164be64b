/**
 * Cuts a text file into parts of so many rows, reading it once in pieces: memory does not grow with the file.
 *
 * 1. A part begins where a row begins and ends where one ends; the parts of a file are all its rows, in order.
 * 2. In CSV a line break between quotes belongs to its row (RFC 4180); the header is no row.
 * 3. Empty lines are no rows.
 */
import { createReadStream } from 'node:fs'
import type { Part } from './recipe.ts'

const PIECE_BYTES = 1024 * 1024
const NEWLINE = 0x0a
const RETURN = 0x0d
const QUOTE = 0x22

/** The parts of a file, as the `file`-th of a plan. */
export async function cutText(
  path: string,
  { file, rowsPerPart, isCsv }: { readonly file: number; readonly rowsPerPart: number; readonly isCsv: boolean },
): Promise<Part[]> {
  const parts: Part[] = []
  const rows = new RowCounter(isCsv)
  let current = { first: 0, offset: 0 }
  let isBody = !isCsv
  const onRow = (end: number): void => {
    if (!isBody) {
      isBody = true
      rows.count = 0
      current = { first: 0, offset: end }
    } else if (rows.count - current.first === rowsPerPart) close(end)
  }
  const close = (end: number): void => {
    const { first, offset } = current
    if (rows.count > first) parts.push({ file, first, rows: rows.count - first, offset, length: end - offset })
    current = { first: rows.count, offset: end }
  }
  for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES })) rows.read(piece as Buffer, onRow)
  rows.end(onRow)
  if (isBody) close(rows.position)
  return parts
}

/** Finds the ends of rows in pieces of a file. */
class RowCounter {
  readonly #isCsv: boolean
  /** Rows that have ended. */
  count = 0
  /** Bytes that were read. */
  position = 0
  #isQuoted = false
  /** Whether the line that was begun has anything but a carriage return. */
  #hasContent = false

  constructor(isCsv: boolean) {
    this.#isCsv = isCsv
  }

  read(piece: Buffer, onRow: (end: number) => void): void {
    let at = 0
    let quote = this.#isCsv ? nextOf(piece, QUOTE, 0) : piece.length
    while (at < piece.length) {
      const newline = this.#isQuoted ? piece.length : nextOf(piece, NEWLINE, at)
      const stop = Math.min(newline, quote)
      if (!this.#hasContent) this.#hasContent = hasContent(piece, at, stop) || (stop === quote && quote < piece.length)
      if (stop === piece.length) break
      at = stop + 1
      if (stop === quote) {
        this.#isQuoted = !this.#isQuoted
        quote = nextOf(piece, QUOTE, at)
      } else this.#endRow(this.position + at, onRow)
    }
    this.position += piece.length
  }

  end(onRow: (end: number) => void): void {
    this.#endRow(this.position, onRow)
  }

  #endRow(end: number, onRow: (end: number) => void): void {
    if (!this.#hasContent) return
    this.#hasContent = false
    this.count++
    onRow(end)
  }
}

function nextOf(piece: Buffer, byte: number, from: number): number {
  const found = piece.indexOf(byte, from)
  return found < 0 ? piece.length : found
}

function hasContent(piece: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (piece[at] !== RETURN) return true
  return false
}
