/** What the replay does to Slipway: publishes features, predicts, reports outcomes. */
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Slipway } from '@slipway/client'
import type { Value } from '@slipway/proto/slipway/features/v1/value'
import { endpointName } from './definitions.ts'
import { publishFeatures } from './features.ts'
import type { ReplayPorts } from './replay.ts'
import { untilAnswered } from './retry.ts'
import { type Flight, kilometresPerMile, type Upstream } from './upstream.ts'

const attemptTimeoutMs = 5_000
const giveUpMs = 30_000
const outcomeGiveUpMs = 60_000

/** What `replayPorts` needs. */
export interface ReplayPortsOptions {
  readonly clients: Pick<Slipway, 'features' | 'predictions'>
  readonly upstream: Upstream
  /** From this departure on the upstream sends kilometres; undefined: never. */
  readonly faultMicros: bigint | undefined
}

/** Names the prediction of a flight. */
export const predictionId = (flight: Flight) => `flight-${flight.id}`

/** Ports that call a running Slipway, again where it could not answer for the moment. */
export function replayPorts({ clients, upstream, faultMicros }: ReplayPortsOptions): ReplayPorts {
  return {
    publishFeatures: async (from, to) => {
      await publishFeatures(upstream, clients.features, from, to)
    },
    predict: async (flight) => {
      const kilometres = faultMicros !== undefined && flight.timeMicros >= faultMicros
      const request = { endpoint: endpointName, instances: [instance(flight, kilometres)] }
      await untilAnswered(() => clients.predictions.predict(request, { timeoutMs: attemptTimeoutMs }), giveUpMs)
    },
    reportOutcomes: async (flights) => {
      const feedback = flights.map((flight) => ({
        predictionId: predictionId(flight),
        outcome: { case: 'label' as const, value: flight.late },
        eventTime: timestampFromMs(Number(flight.knownMicros / 1000n)),
      }))
      await untilAnswered(
        () => clients.predictions.recordFeedback({ endpoint: endpointName, feedback }),
        outcomeGiveUpMs,
      )
    },
  }
}

function instance(flight: Flight, kilometres: boolean) {
  return {
    predictionId: predictionId(flight),
    routingKey: flight.id,
    eventTime: timestampFromMs(Number(flight.timeMicros / 1000n)),
    features: {
      distance: number(flight.distanceMiles * (kilometres ? kilometresPerMile : 1)),
      departure_hour: number(flight.departureHour),
    },
    entityKeys: {
      origin: text(flight.origin),
      destination: text(flight.destination),
      route: text(flight.route),
      slot: text(flight.slot),
    },
  }
}

type ValueInit = { kind: Value['kind'] }
const number = (value: number): ValueInit => ({ kind: { case: 'doubleValue', value } })
const text = (value: string): ValueInit => ({ kind: { case: 'stringValue', value } })
