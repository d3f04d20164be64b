/** Says in one sentence what is wrong with an expression, or with the values of a row. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError'
}
