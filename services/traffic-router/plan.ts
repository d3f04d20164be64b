/**
 * What the router must know of a version to predict with it, worked out once: which feature goes to which tensor
 * column, what to do without it, and where the named outputs are.
 */

import { elementOf } from '@slipway/onnx'
import type { ModelVersion, OutputBinding, TensorSpec } from '@slipway/proto/slipway/registry/v1/model'
import {
  type FeatureBinding,
  FeatureSource,
  FeatureType,
  MissingPolicy,
} from '@slipway/proto/slipway/registry/v1/model'

/** What happens when a feature has no value. */
export type Missing = 'nan' | 'default' | 'refuse'

/** A feature of a version, in the order of its bindings, which is the order of the prediction log. */
export interface PlannedFeature {
  readonly name: string
  readonly type: FeatureType
  /** `{view}:{feature}` in the feature store; empty: comes with the request. */
  readonly reference: string
  readonly missing: Missing
  readonly defaultValue: number
}

/** An input tensor and the features of its columns. */
export interface PlannedInput {
  readonly name: string
  readonly datatype: string
  /** Dimensions: 1 for `[rows]`, 2 for `[rows, columns]`. */
  readonly rank: 1 | 2
  /** For each column the index of its feature. */
  readonly features: readonly number[]
}

/** A named output and the tensor column that holds it. */
export interface PlannedOutput {
  readonly name: string
  readonly tensor: string
  readonly column: number
  /** The tensor holds texts. */
  readonly isText: boolean
}

/** How to predict with a version. */
export interface Plan {
  /** The digest of the version. */
  readonly digest: string
  readonly features: readonly PlannedFeature[]
  readonly featureIndex: ReadonlyMap<string, number>
  /** The names of the features as bytes, to recognise them without making texts. */
  readonly nameBytes: readonly Uint8Array[]
  /** Indexes of the features that the feature store gives. */
  readonly storedFeatures: readonly number[]
  readonly inputs: readonly PlannedInput[]
  readonly outputs: readonly PlannedOutput[]
}

/** A plan, or why named features cannot be used with the version; the Open Inference Protocol still can. */
export type Planned = { readonly plan: Plan } | { readonly problem: string }

/** Works out the plan of a version from its signature and bindings. */
export function planVersion(version: Pick<ModelVersion, 'digest' | 'signature' | 'features' | 'outputs'>): Planned {
  const signature = version.signature
  if (signature === undefined) return { problem: 'the version has no signature' }
  if (version.features.length === 0) return { problem: 'the version has no feature bindings' }
  const inputs: PlannedInput[] = []
  for (const spec of signature.inputs) {
    const input = planInput(spec, version.features)
    if (typeof input === 'string') return { problem: input }
    inputs.push(input)
  }
  const known = new Set(signature.inputs.map((spec) => spec.name))
  const stray = version.features.find((binding) => !known.has(binding.input))
  if (stray !== undefined) return { problem: `feature ${stray.feature} is bound to ${stray.input}, which is no input` }
  const outputs = planOutputs(signature.outputs, version.outputs)
  if (typeof outputs === 'string') return { problem: outputs }
  const features = version.features.map((binding) => planFeature(binding, signature.inputs))
  return {
    plan: {
      digest: version.digest,
      features,
      featureIndex: new Map(features.map((feature, index) => [feature.name, index])),
      nameBytes: features.map((feature) => Buffer.from(feature.name)),
      storedFeatures: features.flatMap((feature, index) => (feature.reference === '' ? [] : [index])),
      inputs,
      outputs,
    },
  }
}

function planFeature(binding: FeatureBinding, inputs: readonly TensorSpec[]): PlannedFeature {
  const datatype = inputs.find((spec) => spec.name === binding.input)?.datatype ?? ''
  const canBeNaN = datatype.startsWith('FP')
  const missing: Missing =
    binding.missingPolicy === MissingPolicy.DEFAULT
      ? 'default'
      : binding.missingPolicy !== MissingPolicy.REFUSE && canBeNaN
        ? 'nan'
        : 'refuse'
  return {
    name: binding.feature,
    type: binding.type,
    reference: binding.source === FeatureSource.FEATURE_STORE ? binding.reference : '',
    missing,
    defaultValue: binding.defaultValue,
  }
}

function planInput(spec: TensorSpec, bindings: readonly FeatureBinding[]): PlannedInput | string {
  if (elementOf(spec.datatype) === undefined && spec.datatype !== 'BYTES')
    return `input ${spec.name} has datatype ${spec.datatype}, which cannot be made from features`
  const rank = spec.shape.length
  if (rank !== 1 && rank !== 2) return `input ${spec.name} has ${rank} dimensions: features make one or two`
  const features: number[] = []
  for (const [index, binding] of bindings.entries()) {
    if (binding.input !== spec.name) continue
    if (features[binding.column] !== undefined) return `column ${binding.column} of input ${spec.name} is bound twice`
    if ((spec.datatype === 'BYTES') !== (binding.type === FeatureType.STRING))
      return `feature ${binding.feature} does not fit input ${spec.name} of datatype ${spec.datatype}`
    features[binding.column] = index
  }
  const width = rank === 1 ? 1 : Number(spec.shape[1])
  const expected = width < 0 ? features.length : width
  for (let column = 0; column < expected; column++) {
    if (features[column] === undefined) return `column ${column} of input ${spec.name} has no feature`
  }
  if (features.length !== expected || expected === 0)
    return `input ${spec.name} has ${expected} columns, but ${features.length} are bound`
  return { name: spec.name, datatype: spec.datatype, rank, features }
}

function planOutputs(specs: readonly TensorSpec[], bindings: readonly OutputBinding[]): PlannedOutput[] | string {
  const outputs: PlannedOutput[] = []
  for (const binding of bindings) {
    const spec = specs.find((each) => each.name === binding.tensor)
    if (spec === undefined) return `output ${binding.output} is bound to ${binding.tensor}, which is no output`
    const isText = spec.datatype === 'BYTES'
    if (!isText && elementOf(spec.datatype) === undefined)
      return `output ${binding.output} has datatype ${spec.datatype}, which cannot be named`
    outputs.push({ name: binding.output, tensor: binding.tensor, column: binding.column, isText })
  }
  return outputs.length === 0 ? 'the version has no named outputs' : outputs
}
