/** Counts as bytes: little-endian 32-bit integers. */

/** Bytes of counts. */
export function encodeCounts(counts: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(counts.length * 4)
  const view = new DataView(bytes.buffer)
  counts.forEach((count, cell) => {
    view.setUint32(cell * 4, count, true)
  })
  return bytes
}

/** Counts of bytes. */
export function decodeCounts(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: bytes.byteLength / 4 }, (_, cell) => view.getUint32(cell * 4, true))
}
