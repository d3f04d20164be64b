import type { RpcServer } from '@slipway/rpc'
import type { ModelTable } from './model-table.ts'

/**
 * Keeps the health service in step with the table: a model goes by its name, a version by `{model}/{number}`. What is not on the
 * table is not known.
 */
export class ModelHealth {
  readonly #models: ModelTable
  readonly #health: RpcServer['health']

  constructor(models: ModelTable, health: RpcServer['health']) {
    this.#models = models
    this.#health = health
    for (const { model, version } of models) this.#refresh(model, version)
    models.onChange((model, version) => this.#refresh(model, version))
  }

  #refresh(model: string, version: string | undefined): void {
    if (version !== undefined) {
      const state = this.#models.get(model, version)
      this.#tell(`${model}/${version}`, state !== undefined, this.#models.isReady(model, version))
    }
    this.#tell(model, this.#models.has(model), this.#models.isReady(model, ''))
  }

  #tell(service: string, isKnown: boolean, isServing: boolean): void {
    if (isKnown) this.#health.set(service, isServing)
    else this.#health.forget(service)
  }
}
