/**
 * Ctrl-C and SIGTERM.
 *
 * 1. The first signal asks the run to end; the run then stops what it started.
 * 2. One Ctrl-C may come several times: npm and the terminal both pass it on. Repeats within a second count as one.
 * 3. A later one ends the process at once, and so does a run that has not ended in time.
 */

/** What of the process it touches. */
export interface SignalHost {
  on(signal: 'SIGINT' | 'SIGTERM', listener: (signal: 'SIGINT' | 'SIGTERM') => void): unknown
  exit(code: number): void
}

/** A wish to end. */
export interface Interruption {
  /** Aborted with the first signal. */
  readonly signal: AbortSignal
  /** As shells have it: 128 and the number of the signal. */
  exitCode(): number
}

const sameKeystrokeMs = 1_000

/** Listens for signals for as long as the process lives. */
export function listenForInterruption(host: SignalHost, giveUpAfterMs = 15_000): Interruption {
  const asked = new AbortController()
  let exitCode = 0
  let firstMs = 0
  const onSignal = (signal: 'SIGINT' | 'SIGTERM') => {
    if (asked.signal.aborted) {
      if (performance.now() - firstMs > sameKeystrokeMs) host.exit(exitCode)
      return
    }
    exitCode = signal === 'SIGINT' ? 130 : 143
    firstMs = performance.now()
    setTimeout(() => host.exit(exitCode), giveUpAfterMs).unref()
    asked.abort(signal)
  }
  host.on('SIGINT', onSignal)
  host.on('SIGTERM', onSignal)
  return { signal: asked.signal, exitCode: () => exitCode }
}
