import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  FeatureSource,
  FeatureType,
  GateState,
  type ModelVersion,
  ModelVersionSchema,
  ReferenceKind,
} from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { canonicalManifest, versionDigest } from './manifest.ts'

function version(): ModelVersion {
  return create(ModelVersionSchema, {
    files: [
      { path: 'model.onnx', sizeBytes: 12n, digest: `sha256:${'a'.repeat(64)}` },
      { path: 'labels.txt', sizeBytes: 3n, digest: `sha256:${'b'.repeat(64)}` },
    ],
    signature: { inputs: [{ name: 'x', datatype: 'FP32', shape: [-1n, 1n] }], opsets: { '': 17n, 'ai.onnx.ml': 3n } },
    features: [{ feature: 'distance', type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: 'x', column: 0 }],
    outputs: [{ output: 'late', tensor: 'y', column: 1 }],
    referenceDistributions: [
      {
        name: 'distance',
        kind: ReferenceKind.FEATURE,
        cells: { case: 'numeric', value: { edges: [0.1, 1e21, 1e-7] } },
        mean: Number.NaN,
      },
    ],
    lineage: { parameters: { b: '2', a: '1', é: '3' }, metrics: { auc: 0.75 }, seed: 7n },
  })
}

test('the canonical manifest is this text, byte for byte', () => {
  expect(canonicalManifest(version())).toBe(
    `{"features":[{"feature":"distance","input":"x","source":"FEATURE_SOURCE_REQUEST","type":"FEATURE_TYPE_DOUBLE"}],` +
      `"files":[{"digest":"sha256:${'b'.repeat(64)}","path":"labels.txt","sizeBytes":"3"},` +
      `{"digest":"sha256:${'a'.repeat(64)}","path":"model.onnx","sizeBytes":"12"}],` +
      `"lineage":{"metrics":{"auc":0.75},"parameters":{"a":"1","b":"2","é":"3"},"seed":"7"},` +
      `"outputs":[{"column":1,"output":"late","tensor":"y"}],` +
      `"referenceDistributions":[{"kind":"REFERENCE_KIND_FEATURE","mean":"NaN","name":"distance","numeric":{"edges":[0.1,1e+21,1e-7]}}],` +
      `"signature":{"inputs":[{"datatype":"FP32","name":"x","shape":["-1","1"]}],"opsets":{"":"17","ai.onnx.ml":"3"}}}`,
  )
})

test('what the registry adds later, the order of files and a trip over the wire leave the digest as it was', () => {
  const digest = versionDigest(version())
  const read = version()
  read.name = 'models/a/versions/1'
  read.gateState = GateState.PASSED
  read.aliases = ['champion']
  read.files.reverse()
  expect(versionDigest(fromBinary(ModelVersionSchema, toBinary(ModelVersionSchema, read)))).toBe(digest)
})

test('any declared content changes the digest', () => {
  const digests = [
    (v: ModelVersion) => Object.assign(v, { featureService: 'featureServices/x' }),
    (v: ModelVersion) => Object.assign(v.files[0] ?? {}, { digest: `sha256:${'c'.repeat(64)}` }),
    (v: ModelVersion) => Object.assign(v.features[0] ?? {}, { column: 1 }),
    (v: ModelVersion) => Object.assign(v.lineage ?? {}, { seed: 8n }),
    (v: ModelVersion) => Object.assign(v.referenceDistributions[0] ?? {}, { mean: 1 }),
    (v: ModelVersion) => v.signature?.inputs[0]?.shape.push(1n),
    () => {},
  ].map((change) => {
    const changed = version()
    change(changed)
    return versionDigest(changed)
  })
  expect(new Set(digests).size).toBe(digests.length)
})
