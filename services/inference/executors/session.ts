/** A model that runs, as the two kinds of executors see it; the ONNX Runtime one is in `onnx-session.ts`. */
import {
  type Answer,
  clockMs,
  type GroupDescription,
  type InputTensor,
  type Memory,
  readInputHead,
  readInputs,
} from './layout.ts'

/** What one run gave. */
export type RunResult = Omit<Answer, 'beganMs' | 'waitMicros'>

/** One model, ready to run. */
export interface ModelSession {
  /** Rejects with the runtime's text when it refuses the inputs. The inputs are good until it resolves. */
  run(inputs: readonly InputTensor[], group: GroupDescription): Promise<RunResult>
  /** Gives back its memory. */
  close(): Promise<void>
}

/** Opens a model: its bytes, or the path of its file. Rejects with the runtime's text when it refuses the model. */
export type OpenSession = (model: Uint8Array | string, intraOpThreads: number) => Promise<ModelSession>

/** Runs what lies in memory, unless it is too late or `mayBegin` says no. */
export async function runBatch(
  session: ModelSession,
  groups: ReadonlyMap<number, GroupDescription>,
  memory: Memory,
  mayBegin: () => boolean = () => true,
): Promise<Answer | 'skipped'> {
  const { groupId, notAfterMs, handedOverMs } = readInputHead(memory)
  const group = groups.get(groupId)
  if (group === undefined) throw new Error('a batch without a group')
  const waitMicros = Math.round((clockMs() - handedOverMs) * 1000)
  const inputs = readInputs(memory, group)
  const beganMs = Date.now()
  if (beganMs > notAfterMs || !mayBegin()) return 'skipped'
  return { ...(await session.run(inputs, group)), waitMicros, beganMs }
}

/** What is told of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
