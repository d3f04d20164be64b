export { type BlobStore, type Digest, isDigest, type ReadOptions, type StagedBlob, type StoredBlob } from './blobs.ts'
export { openFileBlobs } from './file-blobs.ts'
export { type Migration, migrate } from './migrate.ts'
export { openSqlite, type SqliteOptions } from './sql.ts'
