import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf'
import { pathToString } from '@bufbuild/protobuf/reflect'
import { createValidator, type Violation } from '@bufbuild/protovalidate'
import { Code } from './code.ts'
import { Failure, type FieldViolation } from './failure.ts'

const validator = createValidator()

/**
 * Reads a request and holds it against the rules declared in its proto.
 * Fails with INVALID_ARGUMENT: MALFORMED_MESSAGE for bytes that are not the message, INVALID_FIELD naming each field.
 */
export function readRequest<M extends DescMessage>(schema: M, bytes: Uint8Array): MessageShape<M> {
  const message = decode(schema, bytes)
  const violations = violationsOf(schema, message)
  if (violations.length === 0) return message
  const text = violations.map(({ field, description }) => (field === '' ? description : `${field}: ${description}`))
  throw new Failure(Code.INVALID_ARGUMENT, 'INVALID_FIELD', text.join('; '), { violations })
}

/** Every field of a message that breaks a rule declared in its proto, for messages that do not come as requests. */
export function violationsOf<M extends DescMessage>(schema: M, message: MessageShape<M>): readonly FieldViolation[] {
  const result = validator.validate(schema, message)
  if (result.kind === 'valid') return []
  if (result.kind === 'error') throw Failure.from(result.error)
  return result.violations.map((violation: Violation) => ({
    field: pathToString(violation.field),
    description: violation.message,
  }))
}

function decode<M extends DescMessage>(schema: M, bytes: Uint8Array): MessageShape<M> {
  try {
    return fromBinary(schema, bytes)
  } catch (cause) {
    throw new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_MESSAGE', `the request is not a ${schema.typeName}`, { cause })
  }
}
