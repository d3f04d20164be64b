/** The two ways in which tensors carry their values: typed fields and raw bytes. */

import { elementOf } from '@slipway/onnx'
import type { InferTensorContents } from '@slipway/proto/inference/grpc_service'

/** Typed values as raw bytes; undefined when there are none, or of a datatype that features do not have. */
export function rawContent(datatype: string, contents: InferTensorContents): Buffer | undefined {
  if (datatype === 'BYTES') return contents.bytesContents.length === 0 ? undefined : joinTexts(contents.bytesContents)
  const values = [
    contents.boolContents.map(Number),
    contents.intContents,
    contents.int64Contents,
    contents.uintContents,
    contents.uint64Contents,
    contents.fp32Contents,
    contents.fp64Contents,
  ].find((each) => each.length > 0)
  const element = elementOf(datatype)
  if (values === undefined || element === undefined) return undefined
  const content = Buffer.alloc(values.length * element.sizeBytes)
  for (const [index, value] of values.entries()) element.write(content, index * element.sizeBytes, value)
  return content
}

/** The texts of a raw BYTES tensor; undefined when the last one is cut off. */
export function textElements(content: Buffer): string[] | undefined {
  const texts: string[] = []
  let at = 0
  while (at < content.length) {
    if (at + 4 > content.length) return undefined
    const end = at + 4 + content.readUInt32LE(at)
    if (end > content.length) return undefined
    texts.push(content.toString('utf8', at + 4, end))
    at = end
  }
  return texts
}

function joinTexts(texts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    texts.flatMap((text) => {
      const prefix = Buffer.alloc(4)
      prefix.writeUInt32LE(text.length)
      return [prefix, text]
    }),
  )
}
