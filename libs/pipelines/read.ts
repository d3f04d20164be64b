/** From the bytes of a `pipeline.json` to its message. */
import { fromJson, type JsonValue } from '@bufbuild/protobuf'
import { type Pipeline, PipelineSchema } from '@slipway/proto/slipway/inference/v1/pipeline'
import { Code, Failure, type FieldViolation, violationsOf } from '@slipway/rpc'

/** The file that makes a version a pipeline. */
export const PIPELINE_FILE = 'pipeline.json'
/** Largest `pipeline.json`. */
export const MAX_PIPELINE_BYTES = 4 * 1024 * 1024

const MAX_SHOWN_PROBLEMS = 5

/** INVALID_ARGUMENT with everything that is wrong with a pipeline, by field. */
export function invalidPipeline(violations: readonly FieldViolation[], cause?: unknown): Failure {
  const shown = violations.slice(0, MAX_SHOWN_PROBLEMS).map(({ field, description }) => `${field}: ${description}`)
  const more = violations.length > shown.length ? `; and ${violations.length - shown.length} more` : ''
  return new Failure(Code.INVALID_ARGUMENT, 'INVALID_PIPELINE', `${shown.join('; ')}${more}`, { violations, cause })
}

/** Reads a `pipeline.json` and holds it against the rules of its proto. Throws INVALID_PIPELINE. */
export function readPipeline(bytes: Uint8Array): Pipeline {
  if (bytes.length > MAX_PIPELINE_BYTES) {
    throw invalidPipeline([{ field: PIPELINE_FILE, description: `has more than ${MAX_PIPELINE_BYTES} bytes` }])
  }
  const pipeline = parse(bytes)
  const violations = violationsOf(PipelineSchema, pipeline)
  if (violations.length > 0) throw invalidPipeline(violations)
  return pipeline
}

function parse(bytes: Uint8Array): Pipeline {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return fromJson(PipelineSchema, JSON.parse(text) as JsonValue)
  } catch (cause) {
    const description = `is not a slipway.inference.v1.Pipeline in JSON: ${(cause as Error).message}`
    throw invalidPipeline([{ field: PIPELINE_FILE, description }], cause)
  }
}
