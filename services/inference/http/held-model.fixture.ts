/** A version that answers when its test says so. */
import type { ModelTable } from '../model-table.ts'
import type { Servable } from '../servable.ts'
import { describeSignature } from '../signature.ts'
import type { Work } from '../work-queue.ts'

/** The version, and what it was offered. */
export interface HeldModel {
  readonly offered: readonly Work[]
  /** Answers all that was offered with as many zeros as rows, as an executor would: not those who are gone. */
  release(): void
}

/** Puts `model` on the table: FP32 in, FP32 out. */
export function holdModel(models: ModelTable, model: string): HeldModel {
  const offered: Work[] = []
  const served: Servable = {
    name: `models/${model}/versions/1`,
    model,
    number: '1',
    digest: `sha256:${'0'.repeat(64)}`,
    sizeBytes: 0,
    signature: describeSignature(
      [{ name: 'input', datatype: 'FP32', shape: [-1] }],
      [{ name: 'output', datatype: 'FP32', shape: [-1] }],
    ),
    platform: 'onnxruntime_onnx',
    isQuarantined: false,
    counts: { queued: 0, batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0, executedAfterDeadline: 0 },
    lastUsedMs: 0,
    group: (inputs, outputs, batchable) => ({ id: 1, inputs, outputs, batchable, outputDatatypes: ['FP32'] }),
    offer: (work) => offered.push(work),
    drain: async () => undefined,
    close: async () => undefined,
  }
  models.set(model, '1', { kind: 'ready', served, readyTimeMs: 0 })
  return {
    offered,
    release() {
      for (const work of offered.splice(0)) {
        if (work.isCancelled) continue
        const bytes = Buffer.alloc(4 * work.rows)
        work.answer([{ dims: [work.rows], bytes }], { starts: [0], ends: [bytes.length], rows: work.rows })
      }
    },
  }
}
