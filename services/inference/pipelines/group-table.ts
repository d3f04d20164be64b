import type { Datatype } from '@slipway/onnx'
import type { FindGroup } from '../plan.ts'
import type { ModelSignature } from '../signature.ts'
import type { Group } from '../work-queue.ts'

const MAX_GROUPS = 1024

/** The groups of one version's requests, forgotten all at once when they are too many. */
export class GroupTable {
  readonly #known = new Map<string, Group>()
  readonly #datatypes: ReadonlyMap<string, Datatype>
  #nextId = 1

  constructor({ outputs }: ModelSignature) {
    this.#datatypes = new Map(outputs.map(({ name, datatype }) => [name, datatype]))
  }

  readonly find: FindGroup = (inputs, outputs, batchable) => {
    const key = JSON.stringify([inputs.map(({ dims }) => dims), outputs, batchable])
    const known = this.#known.get(key)
    if (known !== undefined) return known
    if (this.#known.size >= MAX_GROUPS) this.#known.clear()
    const outputDatatypes = outputs.map((name) => this.#datatypes.get(name) ?? 'BYTES')
    const group = { id: this.#nextId++, inputs, outputs, batchable, outputDatatypes }
    this.#known.set(key, group)
    return group
  }
}
