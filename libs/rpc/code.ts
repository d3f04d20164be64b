/** The status codes of gRPC, by their published names and numbers. */
export const Code = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const

/** One of the status codes of gRPC. */
export type Code = (typeof Code)[keyof typeof Code]

const names = Object.keys(Code)
const codes: readonly Code[] = Object.values(Code)

/** The published name of a status code, such as `NOT_FOUND`. */
export function codeName(code: Code): string {
  return names[codes.indexOf(code)] ?? 'UNKNOWN'
}

/** The status code with this number; UNKNOWN for a number that gRPC does not know, as its specification asks. */
export function codeOf(number: number): Code {
  return codes.find((code) => code === number) ?? Code.UNKNOWN
}
