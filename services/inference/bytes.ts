const NATIVE_COPY_FROM_BYTES = 48

/** Copies `source[start, end)` to `target` at a position, short pieces byte by byte, which costs less than the call. Returns how many. */
export function copyBytes(source: Buffer, start: number, end: number, target: Buffer, at: number): number {
  const length = end - start
  if (length >= NATIVE_COPY_FROM_BYTES) source.copy(target, at, start, end)
  else for (let index = 0; index < length; index++) target[at + index] = source[start + index] as number
  return length
}

/** Where pieces of these lengths begin and end when they follow each other: the first byte, the byte after the last of each. */
export function consecutive(lengths: readonly number[]): number[] {
  const offsets: number[] = []
  let at = 0
  for (const length of lengths) {
    offsets.push(at, at + length)
    at += length
  }
  return offsets
}
