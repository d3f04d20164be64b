/** The models that the server knows, and having them loaded and let go, as `RepositoryIndex` and its siblings ask for it. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  RepositoryIndexRequest,
  RepositoryIndexResponseSchema,
  RepositoryModelLoadRequest,
  RepositoryModelUnloadRequest,
} from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import type { ModelTable, VersionState } from './model-table.ts'
import { echo } from './refusals.ts'
import { byModelAndNumber } from './statistics.ts'

/** Where models come from when somebody asks for one by its name alone. */
export interface ModelRepository {
  /** Has the version loaded that answers when none is named. Resolves when it answers, fails with why it cannot. */
  load(model: string): Promise<void>
  /** Lets all versions go, once they have answered what they took. */
  unload(model: string): Promise<void>
}

/** Answers `RepositoryIndex`: every version on the table, by model and number. */
export function describeRepository(
  models: ModelTable,
  { repositoryName, ready }: Pick<RepositoryIndexRequest, 'repositoryName' | 'ready'>,
): MessageInitShape<typeof RepositoryIndexResponseSchema> {
  refuseRepository(repositoryName)
  const listed = [...models].map(({ model, version, state }) => ({ name: model, version, ...describeState(state) }))
  return { models: listed.filter(({ state }) => !ready || state === 'READY').sort(byModelAndNumber) }
}

function describeState(state: VersionState): { readonly state: string; readonly reason?: string } {
  switch (state.kind) {
    case 'ready':
      if (!state.served.isQuarantined) return { state: 'READY' }
      return { state: 'UNAVAILABLE', reason: 'quarantined: its executor died too often' }
    case 'loading':
      return { state: 'LOADING' }
    case 'unloading':
      return { state: 'UNLOADING' }
    case 'failed':
      return { state: 'UNAVAILABLE', reason: state.failure.message }
    case 'unloaded':
      return { state: 'UNAVAILABLE', reason: 'unloaded' }
  }
}

/** Answers `RepositoryModelLoad`. A version is what its digest says, so that nothing of it can be overridden. */
export async function loadModel(
  repository: ModelRepository | undefined,
  { repositoryName, modelName, parameters }: Omit<RepositoryModelLoadRequest, '$typeName'>,
): Promise<Record<string, never>> {
  refuseRepository(repositoryName)
  for (const name of Object.keys(parameters)) {
    if (name === 'config' || name.startsWith('file:'))
      throw refuse(
        `parameters.${echo(name)}`,
        `'${echo(name)}' cannot be overridden: a version is what its digest says`,
      )
    throw refuse(`parameters.${echo(name)}`, `unknown parameter '${echo(name)}' of a load`)
  }
  await given(repository).load(named(modelName))
  return {}
}

/** Answers `RepositoryModelUnload`. */
export async function unloadModel(
  repository: ModelRepository | undefined,
  { repositoryName, modelName, parameters }: Omit<RepositoryModelUnloadRequest, '$typeName'>,
): Promise<Record<string, never>> {
  refuseRepository(repositoryName)
  for (const [name, { parameterChoice }] of Object.entries(parameters)) {
    if (name !== 'unload_dependents')
      throw refuse(`parameters.${echo(name)}`, `unknown parameter '${echo(name)}' of an unload`)
    // Nothing is loaded for the sake of another model only, so that there is nothing more to unload.
    if (parameterChoice.case !== 'boolParam') throw refuse('parameters.unload_dependents', 'it is true or false')
  }
  await given(repository).unload(named(modelName))
  return {}
}

function named(model: string): string {
  if (model !== '') return model
  throw refuse('model_name', 'a model must be named')
}

function given(repository: ModelRepository | undefined): ModelRepository {
  if (repository !== undefined) return repository
  throw new Failure(Code.UNIMPLEMENTED, 'NO_REPOSITORY', 'this server has no repository to load models from')
}

function refuseRepository(name: string): void {
  if (name !== '') throw refuse('repository_name', `there is no repository '${echo(name)}': the only one has no name`)
}

function refuse(field: string, description: string): Failure {
  return new Failure(Code.INVALID_ARGUMENT, 'INVALID_REPOSITORY_REQUEST', description, {
    violations: [{ field, description }],
  })
}
