/**
 * The labels under which versions are measured.
 *
 * 1. No more than a named number of versions have labels of their own, however many there are; the others share one, `other`.
 * 2. A version has its labels from its first measurement until it is off the table.
 * 3. Labels are made once for each version and outcome, so that a measurement allocates none.
 */
import { type Attributes, attribute, BoundedLabels } from '@slipway/telemetry'
import type { ModelTable } from './model-table.ts'
import type { Servable } from './servable.ts'

/** Versions that are measured under names of their own, unless told otherwise. */
export const MAX_LABELLED_VERSIONS = 200

const OTHER: Attributes = { [attribute.model]: 'other', [attribute.modelVersion]: 'other' }

type Labelled = Pick<Servable, 'name' | 'model' | 'number'>

/** See the top of this file. */
export class VersionLabels {
  readonly #versions: BoundedLabels
  readonly #outcomes = new WeakMap<Attributes, Map<string, Attributes>>()

  constructor(models: ModelTable, maxVersions = MAX_LABELLED_VERSIONS) {
    this.#versions = new BoundedLabels(maxVersions, OTHER)
    models.onChange((model, version) => {
      if (version !== undefined && models.get(model, version) === undefined) {
        this.#versions.release(`models/${model}/versions/${version}`)
      }
    })
  }

  /** Model and version. */
  of({ name, model, number }: Labelled): Attributes {
    return this.#versions.of(name, () => ({ [attribute.model]: model, [attribute.modelVersion]: number }))
  }

  /** Model, version and one thing more, of which there are few. */
  with(version: Labelled, label: string, value: string): Attributes {
    const own = this.of(version)
    let known = this.#outcomes.get(own)
    if (known === undefined) {
      known = new Map()
      this.#outcomes.set(own, known)
    }
    const key = `${label} ${value}`
    let labels = known.get(key)
    if (labels === undefined) {
      labels = { ...own, [label]: value }
      known.set(key, labels)
    }
    return labels
  }
}
