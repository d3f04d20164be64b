/** The summary for people, and what they may want to type next. */
import { endpointName, modelName, monitorName } from './definitions.ts'
import type { Summary } from './summary.ts'

/** Port of the traffic-router that the command line assumes. */
const defaultPort = '7400'

/** The summary in words with commands to paste, ending with a newline. */
export function printSummary(summary: Summary): string {
  const { training, predictions, labels, drift, rollout, timings, endpoints } = summary
  const incident = drift.incidents[0]
  const port = endpoints.trafficRouter.slice(endpoints.trafficRouter.lastIndexOf(':') + 1)
  const where = port === defaultPort ? '' : ` --port-base ${port}`
  const lines = [
    '',
    `Training    ${training.rows} rows of ${training.datasetDigest.slice(0, 19)}; AUC ${fixed(training.auc)} on the held-out week (base rate ${fixed(training.baselineAuc)}), log loss ${fixed(training.logLoss)} (${fixed(training.baselineLogLoss)})`,
    ...summary.versions.map(
      (version) =>
        `Version     ${version.name} ${version.digest.slice(0, 19)} ${version.aliases.join(', ') || '-'}; gate ${version.gatePassed ? 'passed' : 'failed'}${version.gateCompared ? ', compared with the champion' : ''}; live log loss ${version.liveLogLoss === null ? '-' : fixed(version.liveLogLoss)}`,
    ),
    `Predictions ${predictions.answered} of ${predictions.offered} answered, ${predictions.failed} failed, ${predictions.logged} logged; ${Math.round(predictions.perSecond)}/s, p50 ${fixed(predictions.p50Ms)} ms, p99 ${fixed(predictions.p99Ms)} ms`,
    `Labels      ${labels.joined} of ${labels.sent} joined`,
    `Drift       ${drift.incidentsOnCleanDays} incidents on ${drift.cleanDays} clean days`,
    ...(incident === undefined
      ? []
      : [
          `Incident    ${incident.features.join(', ')} moved by ${fixed(incident.effect)} (0 same, 1 nothing in common; ${incident.sampleSize} rows), seen ${((incident.delaySeconds ?? 0) / 3600).toFixed(1)} h after the fault`,
        ]),
    ...rollout.steps.map(
      (step) => `Rollout     ${step.weightPercent} % held for ${step.requests} requests, ${step.failed} failed`,
    ),
    `Took        ${timings.totalSeconds.toFixed(0)} s, first prediction after ${timings.firstPredictionSeconds.toFixed(0)} s, ${Math.round(timings.peakRssBytes / 1e6)} MB at most`,
    '',
    'Look around:',
    `  npm run slipway -- report ${id(monitorName)}${where}`,
    `  npm run slipway -- incidents list ${id(monitorName)}${where}`,
    `  npm run slipway -- versions list ${id(modelName)}${where}`,
    `  npm run slipway -- endpoints get ${id(endpointName)}${where}`,
    `  npx buf curl --protocol grpc --http2-prior-knowledge --reflect -d '{"name":"${endpointName}"}' http://${endpoints.trafficRouter}/slipway.routing.v1.RoutingService/GetEndpoint`,
    `  npx buf curl --protocol grpc --http2-prior-knowledge --list-services http://${endpoints.registry}`,
    '',
  ]
  return `${lines.join('\n')}\n`
}

const fixed = (value: number) => value.toFixed(3)
const id = (name: string) => name.slice(name.indexOf('/') + 1)
