/** One span and one measurement for each step of each request; nothing while no SDK runs. */
import { Failure } from '@slipway/rpc'
import {
  attribute,
  type Context,
  meter,
  metric,
  SpanStatusCode,
  telemetryRuns,
  trace,
  tracer,
} from '@slipway/telemetry'
import type { Servable } from '../servable.ts'

const SCOPE = 'slipway.inference'

/** Runs something inside a span, whose context it gets. */
export type Traced = <T>(
  name: string,
  parent: Context | undefined,
  action: (within: Context | undefined) => Promise<T>,
) => Promise<T>

/** Makes the spans of one version's requests: `span` for the whole, `step` for each step. */
export function createStepTracing({ model, number, digest }: Pick<Servable, 'model' | 'number' | 'digest'>): {
  readonly request: Traced
  readonly step: Traced
} {
  const labels = { [attribute.model]: model, [attribute.modelVersion]: number }
  const duration = meter(SCOPE).createHistogram(metric.inferenceStepDuration)
  const within = async <T>(
    name: string,
    attributes: Readonly<Record<string, string>>,
    parent: Context | undefined,
    action: (within: Context | undefined) => Promise<T>,
  ): Promise<T> => {
    if (parent === undefined) return await action(undefined)
    const span = tracer(SCOPE).startSpan(name, { attributes }, parent)
    try {
      return await action(trace.setSpan(parent, span))
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR })
      span.setAttribute(attribute.failureReason, Failure.from(error).reason)
      throw error
    } finally {
      span.end()
    }
  }
  return {
    request: (name, parent, action) => within(name, { ...labels, [attribute.modelDigest]: digest }, parent, action),
    step: async (name, parent, action) => {
      if (!telemetryRuns()) return await action(undefined)
      const begunMs = performance.now()
      const attributes = { ...labels, [attribute.pipelineStep]: name }
      try {
        return await within('inference.step', attributes, parent, action)
      } finally {
        duration.record((performance.now() - begunMs) / 1000, attributes)
      }
    },
  }
}
