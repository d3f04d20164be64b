/** What is measured of answers; while no telemetry runs only a look at one flag. */
import type { Failure } from '@slipway/rpc'
import { type Attributes, attribute, meter, metric, telemetryRuns } from '@slipway/telemetry'
import type { StageMicros } from './prediction-record.ts'
import type { ServedEndpoint, ServedVariant } from './routing-table.ts'
import { endRequestTrace, type RequestTrace } from './trace.ts'

const meters = meter('slipway.traffic-router')
const predictions = meters.createCounter(metric.routerPredictions)
const durations = meters.createHistogram(metric.routerPredictionDuration)
const stageDurations = meters.createHistogram(metric.routerStageDuration)
const STAGES = ['features', 'assemble', 'inference'] as const

/** What a span says about the prediction that it is of. */
export interface ObservedPrediction {
  readonly predictionId: string
  readonly endpoint: ServedEndpoint
  readonly variant: ServedVariant
}

/** Measures answers. */
export class Observer {
  readonly #attributes = new WeakMap<ServedVariant, Attributes>()

  /** A prediction was answered. */
  answered(variant: ServedVariant, endpoint: ServedEndpoint, startedMs: number): void {
    if (!telemetryRuns()) return
    let attributes = this.#attributes.get(variant)
    if (attributes === undefined) {
      attributes = {
        [attribute.endpoint]: endpoint.name,
        [attribute.variant]: variant.name,
        [attribute.modelVersion]: variant.modelVersion,
        [attribute.rpcStatusCode]: 'OK',
      }
      this.#attributes.set(variant, attributes)
    }
    predictions.add(1, attributes)
    durations.record((performance.now() - startedMs) / 1_000, attributes)
  }

  /** The stages of a call, microseconds each. */
  stages(stages: StageMicros, endpoint: ServedEndpoint): void {
    if (!telemetryRuns()) return
    for (const stage of STAGES) {
      const attributes = { [attribute.endpoint]: endpoint.name, [attribute.stage]: stage }
      stageDurations.record(stages[stage] / 1_000_000, attributes)
    }
  }

  /** A call was refused or could not be answered. */
  failed(trace: RequestTrace | undefined, failure: Failure, startedMs: number): void {
    if (!telemetryRuns()) return
    const attributes = { [attribute.failureReason]: failure.reason }
    predictions.add(1, attributes)
    durations.record((performance.now() - startedMs) / 1_000, attributes)
    endRequestTrace(trace, failure)
  }

  /** A call is over; its span names the first prediction. */
  ended(trace: RequestTrace | undefined, first: ObservedPrediction | undefined): void {
    if (trace === undefined) return
    if (first !== undefined) {
      trace.span.setAttributes({
        [attribute.predictionId]: first.predictionId,
        [attribute.endpoint]: first.endpoint.name,
        [attribute.variant]: first.variant.name,
        [attribute.modelVersion]: first.variant.modelVersion,
        [attribute.modelDigest]: first.variant.digest,
      })
    }
    endRequestTrace(trace, undefined)
  }
}
