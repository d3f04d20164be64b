/** The thread of `json-work.ts`. */
import { parentPort } from 'node:worker_threads'
import { Failure } from '@slipway/rpc'
import { type HttpAnswer, writeInferAnswer } from './infer-answer.ts'
import { type Addressee, type AnswerForm, type InferRequest, readInferRequest } from './infer-request.ts'
import type { HttpLimits } from './limits.ts'

/** What is to be done; the bytes are the thread's. */
export type Job =
  | {
      readonly kind: 'read'
      readonly addressee: Addressee
      readonly bytes: Uint8Array<ArrayBuffer>
      readonly header: string | undefined
      readonly maxJsonBytes: number
    }
  | {
      readonly kind: 'write'
      readonly bytes: Uint8Array<ArrayBuffer>
      readonly form: AnswerForm
      readonly limits: Pick<HttpLimits, 'maxAnswerBytes' | 'maxJsonBytes'>
    }

/** What the thread says to a job. */
export type FromJsonThread =
  | { readonly result: InferRequest | HttpAnswer }
  | {
      readonly failure: Pick<
        Failure,
        'code' | 'reason' | 'message' | 'metadata' | 'violations' | 'retryAfterMs' | 'cause'
      >
    }

parentPort?.on('message', (job: Job) => {
  try {
    const bytes = Buffer.from(job.bytes.buffer)
    if (job.kind === 'read') {
      const request = readInferRequest(job.addressee, bytes, job.header, job.maxJsonBytes)
      say({ result: request }, request.message)
    } else {
      const answer = writeInferAnswer(bytes, job.form, job.limits)
      say({ result: answer }, answer.body)
    }
  } catch (error) {
    const { code, reason, message, metadata, violations, retryAfterMs, cause } = Failure.from(error)
    const why = cause instanceof Error ? (cause.stack ?? cause.message) : cause
    say({ failure: { code, reason, message, metadata, violations, retryAfterMs, cause: why } })
  }
})

/** Gives large bytes away with the message, where nobody else's lie in the same memory. */
function say(message: FromJsonThread, bytes?: Buffer): void {
  const memory = bytes?.buffer
  const isOwn = memory instanceof ArrayBuffer && memory.byteLength === bytes?.byteLength
  parentPort?.postMessage(message, isOwn ? [memory] : [])
}
