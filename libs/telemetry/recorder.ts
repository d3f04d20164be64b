/** Keeps spans in memory, for tests that assert what was traced. */
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace'

/** A span processor that only remembers. */
export interface SpanRecorder {
  readonly processor: SpanProcessor
  /** Ended spans in the order in which they ended. */
  spans(): readonly ReadableSpan[]
  clear(): void
}

/** Creates a recorder; pass its processor to `startTelemetry({ spanProcessors })`. */
export function createSpanRecorder(): SpanRecorder {
  const ended: ReadableSpan[] = []
  return {
    processor: {
      onStart: () => {},
      onEnd: (span) => {
        ended.push(span)
      },
      forceFlush: async () => {},
      shutdown: async () => {},
    },
    spans: () => [...ended],
    clear: () => {
      ended.length = 0
    },
  }
}
