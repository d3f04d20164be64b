/** How values become SQL columns. */
import { ValueType } from '@slipway/proto/slipway/features/v1/value'

/** The SQL type of a value. */
export const sqlTypes: Readonly<Record<ValueType, string>> = {
  [ValueType.UNSPECIFIED]: 'varchar',
  [ValueType.BOOL]: 'boolean',
  [ValueType.INT64]: 'bigint',
  [ValueType.DOUBLE]: 'double',
  [ValueType.STRING]: 'varchar',
  [ValueType.BYTES]: 'blob',
  [ValueType.TIMESTAMP]: 'timestamp',
}

/** A name as an SQL identifier. */
export const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

/** Text as an SQL literal. */
export const literal = (text: string) => `'${text.replaceAll("'", "''")}'`
