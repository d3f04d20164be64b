/** Why a pipeline refuses or fails a request: always with the step, never with a value. */
import { Code, Failure } from '@slipway/rpc'
import { invalid } from '../refusals.ts'

/** An expression has no value for a row. */
export function expressionFailed(step: string, output: string, row: number | undefined, why: string): Failure {
  const field = `${step}.${output}`
  const where = row === undefined ? '' : ` in row ${row}`
  return new Failure(Code.INVALID_ARGUMENT, 'EXPRESSION_FAILED', `step '${step}' failed: ${output}${where}: ${why}`, {
    metadata: { step },
    violations: [{ field: row === undefined ? field : `${field}[${row}]`, description: why }],
  })
}

/** Tensors that are read together have other numbers of rows. */
export function rowsDiffer(one: string, rows: number, other: string, otherRows: number): Failure {
  return invalid(other, `'${one}' has ${rows} rows, '${other}' has ${otherRows}: they are read together`)
}

/** What failed a step, with its name. */
export function inStep(step: string, error: unknown): Failure {
  const failure = Failure.from(error)
  if (failure.metadata.step !== undefined || failure.code === Code.CANCELLED) return failure
  const { code, reason, metadata, violations, retryAfterMs, cause } = failure
  return new Failure(code, reason, `step '${step}' failed: ${failure.message}`, {
    metadata: { ...metadata, step },
    violations,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    cause: cause ?? error,
  })
}
