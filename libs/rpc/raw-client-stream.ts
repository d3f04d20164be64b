import type { CallScope } from './call-scope.ts'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import type { LeanCall, LeanCallListener } from './lean-call.ts'

/** The caller's side of a bidirectional stream in raw bytes. Listeners are set in the turn in which it was opened. */
export interface RawClientStream {
  /** Sends a message; all that are written in one turn of the event loop leave together. */
  write(message: Uint8Array): void
  /** Hears each answer. */
  onMessage(listener: (message: Buffer) => void): void
  /** Hears once, and last, that the stream is over: nothing for OK, else why. The stream is not opened again. */
  onClose(listener: (failure: Failure | undefined) => void): void
  /** Hears that the server is going away: finish what is in flight, `end`, and open another stream for the rest. */
  onLeaving(listener: () => void): void
  /** Sends no more; answers still come. */
  end(): void
  /** Ends the stream at once; `onClose` hears CANCELLED. */
  cancel(): void
  /** Stops reading, so that the server is held back. */
  pause(): void
  /** Reads on. */
  resume(): void
  /** True while more waits for the server than should: stop writing until `onDrain`. */
  readonly needsDrain: boolean
  /** Told each time what was written is on its way again. */
  onDrain(listener: () => void): void
}

const nothing = (): void => {}

/** A raw stream on a lean call. */
export class ClientStream implements RawClientStream {
  readonly #call: LeanCall
  readonly #unlink: () => void
  #onMessage: (message: Buffer) => void = nothing
  #onClose: (failure: Failure | undefined) => void = nothing
  #onLeaving: () => void = nothing
  #onDrain: () => void = nothing
  #closed = false

  constructor(scope: CallScope, open: (listener: LeanCallListener) => LeanCall) {
    this.#call = open({
      message: (bytes) => this.#onMessage(bytes),
      drain: () => this.#onDrain(),
      closed: (failure) => {
        this.#closed = true
        this.#unlink()
        this.#onClose(failure)
      },
    })
    this.#unlink = scope.onEnd((failure) => this.#call.cancel(failure))
  }

  get needsDrain(): boolean {
    return this.#call.needsDrain
  }

  write(message: Uint8Array): void {
    this.#call.write(message)
  }

  end(): void {
    this.#call.end()
  }

  cancel(): void {
    this.#call.cancel(new Failure(Code.CANCELLED, 'CANCELLED', 'the stream was cancelled'))
  }

  pause(): void {
    this.#call.pause()
  }

  resume(): void {
    this.#call.resume()
  }

  onMessage(listener: (message: Buffer) => void): void {
    this.#onMessage = listener
  }

  onClose(listener: (failure: Failure | undefined) => void): void {
    this.#onClose = listener
  }

  onLeaving(listener: () => void): void {
    this.#onLeaving = listener
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener
  }

  leave(): void {
    if (!this.#closed) this.#onLeaving()
  }
}
