/** Replaces the champion by steps, under traffic: a small share first, then everybody, then the alias moves. */
import { setTimeout as delay } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import type { VariantSchema } from '@slipway/proto/slipway/routing/v1/endpoint'
import type { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import type { Client } from '@slipway/rpc'
import { championAlias, endpointName } from './definitions.ts'
import type { Replay } from './replay.ts'
import { untilAnswered } from './retry.ts'
import type { RolloutStep } from './summary.ts'

const basisPoints = 10_000

/** What a rollout needs. */
export interface RolloutOptions {
  readonly routing: Pick<Client<typeof RoutingService>, 'getEndpoint' | 'setTraffic'>
  readonly registry: Pick<Client<typeof RegistryService>, 'getAlias' | 'setAlias'>
  readonly replay: Pick<Replay, 'counts'>
  readonly candidate: ModelVersion
  /** Shares of the traffic for the candidate, in percent, ascending to 100. */
  readonly weightsPercent: readonly number[]
  /** Requests to wait for at each step. */
  readonly requestsPerStep: number
  readonly onStep: (step: RolloutStep) => void
}

/** Goes through the steps and gives what was counted at each of them. */
export async function rollOut(options: RolloutOptions): Promise<RolloutStep[]> {
  const steps: RolloutStep[] = []
  for (const weightPercent of options.weightsPercent) {
    await setTraffic(options, split(weightPercent, options.candidate.name))
    const before = options.replay.counts()
    const counted = async () => {
      const now = options.replay.counts()
      return { requests: now.offered - before.offered, failed: now.failed - before.failed }
    }
    while ((await counted()).requests < options.requestsPerStep) await delay(50)
    const step = { weightPercent, ...(await counted()) }
    steps.push(step)
    options.onStep(step)
  }
  await moveChampion(options)
  await setTraffic(options, [{ name: 'champion', target: championAlias, weightBasisPoints: basisPoints }])
  return steps
}

type VariantInit = MessageInitShape<typeof VariantSchema>

function split(candidatePercent: number, candidate: string): VariantInit[] {
  const candidateWeight = Math.round((candidatePercent * basisPoints) / 100)
  const canary = { name: 'canary', target: candidate, weightBasisPoints: candidateWeight }
  if (candidateWeight === basisPoints) return [canary]
  return [{ name: 'champion', target: championAlias, weightBasisPoints: basisPoints - candidateWeight }, canary]
}

async function setTraffic({ routing }: RolloutOptions, variants: VariantInit[]): Promise<void> {
  await untilAnswered(async () => {
    const { etag } = await routing.getEndpoint({ name: endpointName })
    await routing.setTraffic({ name: endpointName, etag, variants })
  }, 60_000)
}

async function moveChampion({ registry, candidate }: RolloutOptions): Promise<void> {
  await untilAnswered(async () => {
    const { etag, version } = await registry.getAlias({ name: championAlias })
    if (version === candidate.name) return
    await registry.setAlias({ name: championAlias, version: candidate.name, etag, reason: 'the canary held at 100 %' })
  }, 60_000)
}
