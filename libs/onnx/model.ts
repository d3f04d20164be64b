import type { Datatype } from './datatype.ts'

/** Says in one sentence why bytes are not a model that can be served, or why a description is not one. */
export class OnnxError extends Error {
  override readonly name = 'OnnxError'
}

/** Name, datatype (as the Open Inference Protocol names it) and shape of a tensor; -1 where a dimension is dynamic. */
export interface TensorSpec {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
}

/** Cuts a name that came from outside, so that a message stays readable. */
export function quote(name: string): string {
  return `'${name.length > 80 ? `${name.slice(0, 80)}…` : name}'`
}
