import { createHash } from 'node:crypto'
import type { Group, Work } from '../work-queue.ts'

const descriptions = new WeakMap<Group, string>()

/**
 * SHA-256 of everything that an answer follows from: the version's digest, the inputs wanted with their datatypes, shapes and
 * values, the outputs wanted and their order. Of the request's parameters none reaches a model, so none is in it. Every
 * part is preceded by its length, so that no two requests read the same.
 */
export function requestKey(digest: string, { group, rows, bytes, offsets }: Work): string {
  const hash = createHash('sha256').update(`${digest}\n${descriptionOf(group)}\n${rows}\n`)
  let lengths = ''
  for (let index = 0; index < offsets.length; index += 2)
    lengths += `${(offsets[index + 1] as number) - (offsets[index] as number)},`
  hash.update(`${lengths}\n`)
  for (let index = 0; index < offsets.length; index += 2)
    hash.update(bytes.subarray(offsets[index], offsets[index + 1]))
  return hash.digest('base64')
}

function descriptionOf(group: Group): string {
  let description = descriptions.get(group)
  if (description === undefined) {
    const { inputs, outputs, batchable } = group
    description = JSON.stringify([inputs.map(({ name, datatype, dims }) => [name, datatype, dims]), outputs, batchable])
    descriptions.set(group, description)
  }
  return description
}
