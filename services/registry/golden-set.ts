import { fromBinary } from '@bufbuild/protobuf'
import {
  type Gate,
  type GoldenSet,
  GoldenSetSchema,
  type GoldenTensor,
  type Signature,
} from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import { isReservedAlias } from './names.ts'
import { rowOffsets } from './tensors.ts'

/** Reads and decodes an uploaded golden set; INVALID_ARGUMENT on `field` when it is not there or not one. */
export async function readGoldenSet(
  blobs: BlobStore,
  digest: string,
  options: { readonly field: string; readonly maxBytes: number },
): Promise<GoldenSet> {
  const stored = await blobs.stat(digest)
  if (stored === undefined) throw Failure.invalid(options.field, 'is not uploaded: upload the golden set first')
  if (stored.sizeBytes > options.maxBytes) {
    throw Failure.invalid(options.field, `a golden set has ${options.maxBytes} bytes at most, not ${stored.sizeBytes}`)
  }
  const pieces: Uint8Array[] = []
  for await (const piece of blobs.read(digest)) pieces.push(piece)
  const goldenSet = decode(Buffer.concat(pieces))
  const problem = goldenSet === undefined ? 'is not a GoldenSet message' : problemOf(goldenSet)
  if (goldenSet === undefined || problem !== undefined) throw Failure.invalid(options.field, problem ?? '')
  return goldenSet
}

/** Every problem of a gate's rules, given its golden set when it names one. */
export function checkGateRules(gate: Gate, goldenSet: GoldenSet | undefined, field: string): FieldViolation[] {
  const violations: FieldViolation[] = []
  if (
    gate.championAlias !== '' &&
    (!/^[a-z][a-z0-9-]*$/.test(gate.championAlias) || isReservedAlias(gate.championAlias))
  ) {
    violations.push({ field: `${field}.champion_alias`, description: 'must be the name of an alias' })
  }
  const seen = new Set<number>()
  gate.metrics.forEach((rule, index) => {
    const at = `${field}.metrics[${index}]`
    if (seen.has(rule.metric)) violations.push({ field: `${at}.metric`, description: 'has a rule already' })
    seen.add(rule.metric)
    if (rule.bound === undefined && rule.margin === undefined) {
      violations.push({ field: at, description: 'needs a bound, a margin or both' })
    }
  })
  if (gate.metrics.length > 0 && goldenSet !== undefined) {
    const labels = new Set(goldenSet.labels)
    if (![...labels].every((label) => label === 0 || label === 1) || labels.size < 2) {
      const description = 'need a golden set whose labels are 0 and 1, with both among them'
      violations.push({ field: `${field}.metrics`, description })
    }
  }
  return violations
}

/** Rows of a golden set. */
export function rowCount(goldenSet: GoldenSet): number {
  return Number(goldenSet.inputs[0]?.shape[0] ?? 0n)
}

/** The inputs that a signature asks for, in its order; FAILED_PRECONDITION when the golden set has not all of them. */
export function inputsFor(goldenSet: GoldenSet, signature: Signature, versionName: string): GoldenTensor[] {
  return signature.inputs.map((spec) => {
    const tensor = goldenSet.inputs.find((input) => input.name === spec.name)
    const fits =
      tensor !== undefined &&
      tensor.datatype === spec.datatype &&
      tensor.shape.length === spec.shape.length &&
      spec.shape.slice(1).every((size, axis) => size < 0n || size === tensor.shape[axis + 1])
    if (fits) return tensor
    const wanted = `${spec.name} as ${spec.datatype} [${spec.shape.join(', ')}]`
    const message = `${versionName} takes ${wanted}, and the golden set has no such input: upload one that has`
    throw new Failure(Code.FAILED_PRECONDITION, 'GOLDEN_SET_DOES_NOT_FIT', message, { metadata: { name: versionName } })
  })
}

function decode(bytes: Uint8Array): GoldenSet | undefined {
  try {
    return fromBinary(GoldenSetSchema, bytes)
  } catch {
    return undefined
  }
}

function problemOf(goldenSet: GoldenSet): string | undefined {
  const rows = rowCount(goldenSet)
  if (rows < 1) return 'has no rows'
  for (const tensor of goldenSet.inputs) {
    if (tensor.name === '' || tensor.shape.length === 0) return 'has an input without a name or a shape'
    if (tensor.shape.some((size) => size < 1n)) return `has an empty or negative dimension in ${tensor.name}`
    if (Number(tensor.shape[0]) !== rows) return `has ${rows} rows in one input, ${tensor.shape[0]} in ${tensor.name}`
    if (rowOffsets(tensor, tensor.raw) === undefined) return `holds other bytes than the shape of ${tensor.name} says`
  }
  if (goldenSet.labels.length === 0 || goldenSet.labels.length === rows) return undefined
  return `has ${rows} rows but ${goldenSet.labels.length} labels`
}
