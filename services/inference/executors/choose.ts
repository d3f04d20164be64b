import type { StartExecutor } from './executor.ts'
import { createProcessExecutor } from './process-executor.ts'
import type { ExecutorSettings } from './settings.ts'
import { createThreadExecutor } from './thread-executor.ts'

/** Starts executors of the kind that the settings have for a model. A model is never moved to another kind because of what it did. */
export function chooseExecutor(
  { executorKind, processModels, maxProcessBytes }: ExecutorSettings,
  inThread: StartExecutor = createThreadExecutor(),
  inProcess: StartExecutor = createProcessExecutor(undefined, { maxMemoryBytes: maxProcessBytes }),
): StartExecutor {
  const patterns = processModels.map(patternOf)
  return (start) => {
    const isNamed = patterns.some((pattern) => pattern.test(start.name))
    return (isNamed || executorKind === 'process' ? inProcess : inThread)(start)
  }
}

function patternOf(text: string): RegExp {
  const escaped = text.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
  return new RegExp(`^${escaped.join('.*')}$`)
}
