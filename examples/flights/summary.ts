/** What one run of the example found: the shape that `npm start -- --json` prints, every number taken from the run. */

/** `host:port` of each service. */
export interface Endpoints {
  readonly trafficRouter: string
  readonly registry: string
  readonly featureStore: string
  readonly inference: string
  readonly driftMonitor: string
}

/** How a model does on the weeks after its training, beside the base rate by hour and route. */
export interface TrainingSummary {
  readonly rows: number
  readonly datasetDigest: string
  readonly auc: number
  readonly baselineAuc: number
  readonly logLoss: number
  readonly baselineLogLoss: number
}

/** A registered version; `liveLogLoss` is null while no label of its predictions has arrived. */
export interface VersionSummary {
  readonly name: string
  readonly digest: string
  readonly aliases: readonly string[]
  readonly gatePassed: boolean
  /** The gate compared it with a champion. */
  readonly gateCompared: boolean
  readonly liveLogLoss: number | null
}

/** Counts and latencies as the caller saw them; latencies in milliseconds. */
export interface PredictionSummary {
  readonly offered: number
  readonly answered: number
  /** Not answered within 30 s of retries. */
  readonly failed: number
  /** Predictions that reached the drift monitor. */
  readonly logged: number
  /** Answered, but missing in the log. */
  readonly dropped: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly perSecond: number
}

/** One incident; `effect` is 0 (same) to 1 (nothing in common), `delaySeconds` event time from fault to detection. */
export interface IncidentSummary {
  readonly id: string
  readonly openedAt: string
  readonly features: readonly string[]
  readonly effect: number
  readonly sampleSize: number
  readonly delaySeconds: number | null
}

/** One step of the rollout, with all requests that were made while it held. */
export interface RolloutStep {
  readonly weightPercent: number
  readonly requests: number
  readonly failed: number
}

/** Everything that a run found. */
export interface Summary {
  readonly endpoints: Endpoints
  readonly timings: {
    readonly firstPredictionSeconds: number
    readonly totalSeconds: number
    readonly peakRssBytes: number
  }
  readonly training: TrainingSummary
  readonly versions: readonly VersionSummary[]
  readonly predictions: PredictionSummary
  readonly labels: { readonly sent: number; readonly joined: number }
  readonly drift: {
    readonly cleanDays: number
    readonly incidentsOnCleanDays: number
    readonly faultAt: string | null
    readonly incidents: readonly IncidentSummary[]
  }
  readonly rollout: {
    readonly steps: readonly RolloutStep[]
    readonly fromDigest: string
    readonly toDigest: string
  }
}

/**
 * Share of the predictions that may be missing in the log. No answer waits for the log, so a router that is killed takes
 * the records of its last moments with it; without a kill none is missing.
 */
const lossAllowed = 0.005

/** The steps of the story that did not hold, in words; empty when all did. */
export function brokenSteps(summary: Summary, fault: boolean): string[] {
  const { training, versions, predictions, labels, drift, rollout } = summary
  const first = versions[0]
  const claims: readonly (readonly [string, boolean])[] = [
    [`training set: ${training.rows} rows, 50000 wanted`, training.rows >= 50_000],
    [
      `training: AUC ${training.auc} is not above the baseline's ${training.baselineAuc}`,
      training.auc > training.baselineAuc,
    ],
    ['gate: the first version did not pass', first?.gatePassed === true],
    [`replay: ${predictions.failed} predictions failed`, predictions.failed === 0],
    [`replay: ${predictions.answered} predictions answered, 20000 wanted`, predictions.answered >= 20_000],
    [`log: ${predictions.dropped} predictions are missing`, predictions.dropped <= predictions.answered * lossAllowed],
    [
      `labels: ${labels.joined} of ${labels.sent} joined, 99 % wanted`,
      labels.sent > 0 && labels.joined >= 0.99 * labels.sent,
    ],
    [`monitor: ${drift.cleanDays} clean days, 14 wanted`, drift.cleanDays >= 14],
    [`monitor: ${drift.incidentsOnCleanDays} incidents on clean days`, drift.incidentsOnCleanDays === 0],
    ...(fault ? faultClaims(drift, rollout, versions) : []),
  ]
  return claims.filter(([, held]) => !held).map(([claim]) => claim)
}

function faultClaims(
  drift: Summary['drift'],
  rollout: Summary['rollout'],
  versions: readonly VersionSummary[],
): (readonly [string, boolean])[] {
  const incident = drift.incidents[0]
  const lastStep = rollout.steps.at(-1)
  const replacement = versions.at(-1)
  const daySeconds = 86_400
  return [
    [`monitor: ${drift.incidents.length} incidents, one wanted`, drift.incidents.length === 1],
    [
      `monitor: the incident names ${incident?.features.join(', ')}, not distance`,
      incident?.features[0] === 'distance',
    ],
    [
      `monitor: the incident came ${incident?.delaySeconds} s after the fault, a day is ${daySeconds} s`,
      incident?.delaySeconds != null && incident.delaySeconds >= 0 && incident.delaySeconds <= daySeconds,
    ],
    ['retraining: no second version', versions.length === 2],
    ['gate: the second version was not compared with the first', replacement?.gateCompared === true],
    ['gate: the second version did not pass', replacement?.gatePassed === true],
    ['rollout: it did not reach 100 %', lastStep?.weightPercent === 100 && rollout.steps.length >= 2],
    ['rollout: requests failed', rollout.steps.every((step) => step.failed === 0 && step.requests > 0)],
    ['rollout: the second version does not serve', rollout.toDigest !== '' && rollout.toDigest === replacement?.digest],
  ]
}
