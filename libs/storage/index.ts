export { type Migration, migrate } from './migrate.ts'
export { openSqlite, type SqliteOptions } from './sql.ts'
