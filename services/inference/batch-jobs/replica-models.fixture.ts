/** The models of replicas that share jobs: one that gives back what it gets, and one that takes its time. */
import { costModel, identityModel } from '@slipway/onnx'
import type { TestModel } from '../testing.ts'

/** See the top of this file. */
export const replicaModels: readonly TestModel[] = [
  { model: 'same', bytes: identityModel('FP32', [-1]) },
  { model: 'slow', bytes: costModel({ perRun: 0, perRow: 60 }) },
]
