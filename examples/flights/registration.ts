/** From a trained model to a version that may be deployed: upload, manifest, gate. */
import { create, toBinary } from '@bufbuild/protobuf'
import { runGate } from '@slipway/client'
import {
  buildReferenceDistributions,
  bytesSource,
  drawBackground,
  type Example,
  registerVersion as register,
  type TrainingRow,
  uploadFile,
} from '@slipway/models'
import {
  FeatureBindingSchema,
  FeatureType,
  type GateReport,
  GoldenSetSchema,
  Metric,
  type ModelVersion,
  type ReferenceDistribution,
} from '@slipway/proto/slipway/registry/v1/model'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import type { Client } from '@slipway/rpc'
import { featureBindings, featureServiceName, modelColumns, modelName, outputBindings } from './definitions.ts'
import { untilAnswered } from './retry.ts'
import { type TrainedModel, trainingParameters } from './training.ts'
import type { FlightRows } from './training-set.ts'

type Registry = Client<typeof RegistryService>

const goldenRows = 2_000
const exampleRows = 16
/** Late means a probability of one in three or more: a traveller would want to know. */
const decisionThreshold = 1 / 3

/** A registered version and what its gate said. */
export interface Registered {
  readonly version: ModelVersion
  readonly report: GateReport
}

/** What a version records beside the model itself. */
export interface Origin {
  readonly seed: number
  readonly parentVersion?: string
  readonly trainingRequestId?: string
}

/** Creates the model; a repeated call changes nothing. */
export async function createModel(registry: Registry): Promise<void> {
  const description = 'Will this flight be 15 minutes late or more? US domestic flights of 2001.'
  await registry.createModel({ model: { name: modelName, description } })
}

/** Uploads and registers the model as the next version and runs its gate on the newest held-out rows. */
export async function registerVersion(
  registry: Registry,
  model: TrainedModel,
  origin: Origin,
  onProgress: (done: number, stage: string) => void,
): Promise<Registered> {
  await setGate(registry, model.heldOutRows)
  const version = await register(registry, {
    parent: modelName,
    files: { 'model.onnx': model.onnx },
    background: await background(model, origin),
    features: [...featureBindings],
    outputs: [...outputBindings],
    featureService: featureServiceName,
    referenceDistributions: await references(model),
    example: exampleOf(model),
    lineage: lineage(model, origin),
  })
  const report = await untilAnswered(
    () => runGate(registry, version.name, (percent, stage) => onProgress(percent / 100, stage)),
    60_000,
  )
  return { version, report }
}

/** Candidates answer the newest flights whose outcome is known, so the golden set is renewed with each training. */
async function setGate(registry: Registry, rows: FlightRows): Promise<void> {
  const goldenSet = await uploadFile(registry, bytesSource(goldenSetOf(rows)))
  const gate = {
    goldenSetDigest: goldenSet.digest,
    decisionThreshold,
    tolerances: { meanAbsoluteDifference: 0.15, changedDecisionShare: 0.35 },
    metrics: [
      { metric: Metric.AUC, bound: 0.65, margin: 0.02 },
      { metric: Metric.LOG_LOSS, bound: 0.65, margin: 0.05 },
    ],
  }
  await untilAnswered(
    () => registry.updateModel({ model: { name: modelName, gate }, updateMask: { paths: ['gate'] } }),
    60_000,
  )
}

/** Every n-th row, so that all hours of all days are in it. */
function goldenSetOf(rows: FlightRows): Uint8Array {
  const step = Math.max(1, Math.floor(rows.matrix.rows / goldenRows))
  const chosen = Array.from({ length: rows.matrix.rows }, (_, row) => row).filter((row) => row % step === 0)
  const values = Float32Array.from(
    chosen.flatMap((row) => rows.matrix.columns.map((column) => column[row] ?? Number.NaN)),
  )
  return toBinary(
    GoldenSetSchema,
    create(GoldenSetSchema, {
      inputs: [
        {
          name: 'features',
          datatype: 'FP32',
          shape: [BigInt(chosen.length), BigInt(modelColumns.length)],
          raw: new Uint8Array(values.buffer),
        },
      ],
      labels: chosen.map((row) => rows.labels[row] ?? 0),
    }),
  )
}

/** A few rows and what the trainer itself answers to them: a server whose runtime disagrees does not serve the version. */
function exampleOf({ heldOutRows, heldOutProbabilities }: TrainedModel): Example {
  const rows = Math.min(exampleRows, heldOutRows.matrix.rows)
  const features = Array.from({ length: rows }, (_, row) =>
    heldOutRows.matrix.columns.map((column) => column[row] ?? Number.NaN),
  )
  return {
    inputs: [{ name: 'features', datatype: 'FP32', shape: [rows, modelColumns.length], data: features.flat() }],
    outputs: [
      { name: 'probability', datatype: 'FP32', shape: [rows, 1], data: heldOutProbabilities.subarray(0, rows) },
    ],
  }
}

async function references(model: TrainedModel): Promise<ReferenceDistribution[]> {
  const outputs = outputBindings.map(({ output = '' }) => ({ output }))
  const features = featureBindings.map(({ feature = '', type = FeatureType.DOUBLE }) => ({ feature, type }))
  return await buildReferenceDistributions({ features, outputs, rows: trainingRowsOf(model) })
}

/** What predictions are explained against: a few rows of the training set. */
async function background(model: TrainedModel, { seed }: Origin): Promise<Uint8Array> {
  const inputs = [{ name: 'features', datatype: 'FP32', shape: [-1n, BigInt(modelColumns.length)] }]
  const features = featureBindings.map((binding) => create(FeatureBindingSchema, binding))
  return await drawBackground({ inputs, features, rows: trainingRowsOf(model), seed })
}

function* trainingRowsOf({ answered }: TrainedModel): Generator<TrainingRow> {
  for (const { rows, probabilities } of answered) {
    for (const [place, timeMicros] of rows.timesMicros.entries()) {
      const values: Record<string, number | null> = { probability: probabilities[place] ?? null }
      rows.matrix.columns.forEach((column, index) => {
        const value = column[place] ?? Number.NaN
        values[modelColumns[index] ?? ''] = Number.isNaN(value) ? null : value
      })
      yield { timeMicros, values }
    }
  }
}

function lineage(model: TrainedModel, origin: Origin) {
  const { auc, baselineAuc, logLoss, baselineLogLoss } = model.summary
  return {
    datasetDigest: model.summary.datasetDigest,
    parameters: Object.fromEntries(Object.entries(trainingParameters).map(([name, value]) => [name, String(value)])),
    metrics: { auc, baseline_auc: baselineAuc, log_loss: logLoss, baseline_log_loss: baselineLogLoss },
    framework: 'slipway-example-boosting 1',
    seed: BigInt(origin.seed),
    ...(origin.parentVersion === undefined ? {} : { parentVersion: origin.parentVersion }),
    ...(origin.trainingRequestId === undefined ? {} : { trainingRequestId: origin.trainingRequestId }),
  }
}
