import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf'
import { pathToString } from '@bufbuild/protobuf/reflect'
import { createValidator, type Violation } from '@bufbuild/protovalidate'
import { Code } from './code.ts'
import { Failure } from './failure.ts'

const validator = createValidator()

/**
 * Reads a request and holds it against the rules declared in its proto.
 * Fails with INVALID_ARGUMENT: MALFORMED_MESSAGE for bytes that are not the message, INVALID_FIELD naming each field.
 */
export function readRequest<M extends DescMessage>(schema: M, bytes: Uint8Array): MessageShape<M> {
  const message = decode(schema, bytes)
  const result = validator.validate(schema, message)
  if (result.kind === 'valid') return message
  if (result.kind === 'error') throw Failure.from(result.error)
  const violations = result.violations.map((violation: Violation) => ({
    field: pathToString(violation.field),
    description: violation.message,
  }))
  const text = violations.map(({ field, description }) => (field === '' ? description : `${field}: ${description}`))
  throw new Failure(Code.INVALID_ARGUMENT, 'INVALID_FIELD', text.join('; '), { violations })
}

function decode<M extends DescMessage>(schema: M, bytes: Uint8Array): MessageShape<M> {
  try {
    return fromBinary(schema, bytes)
  } catch (cause) {
    throw new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_MESSAGE', `the request is not a ${schema.typeName}`, { cause })
  }
}
