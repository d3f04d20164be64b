import type { Migration } from '@slipway/storage'

/** What a replica knows of all jobs, from the events that it has applied. Numbers of microseconds are texts. */
export interface Schema {
  /** `message` is a BatchJob; `number` orders jobs by when they were created. */
  jobs: {
    name: string
    number: number
    message: Uint8Array
    request_digest: string
    is_planned: number
    epoch: number
    running_since_micros: string | null
    ran_micros: string
  }
  /** Parts that are written. */
  parts: { job: string; part: number; rows: number; rows_failed: number; size_bytes: number; digest: string }
  /** One row: the replica's id and the offset of the event that it applied last. */
  replica: { id: string; last_offset: string }
}

/** The steps of the schema. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'batch jobs',
    up: async ({ schema }) => {
      await schema
        .createTable('jobs')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('number', 'integer', (column) => column.notNull().unique())
        .addColumn('message', 'blob', (column) => column.notNull())
        .addColumn('request_digest', 'text', (column) => column.notNull())
        .addColumn('is_planned', 'integer', (column) => column.notNull())
        .addColumn('epoch', 'integer', (column) => column.notNull())
        .addColumn('running_since_micros', 'text')
        .addColumn('ran_micros', 'text', (column) => column.notNull())
        .execute()
      await schema
        .createTable('parts')
        .addColumn('job', 'text', (column) => column.notNull())
        .addColumn('part', 'integer', (column) => column.notNull())
        .addColumn('rows', 'integer', (column) => column.notNull())
        .addColumn('rows_failed', 'integer', (column) => column.notNull())
        .addColumn('size_bytes', 'integer', (column) => column.notNull())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('parts_key', ['job', 'part'])
        .execute()
      await schema
        .createTable('replica')
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('last_offset', 'text', (column) => column.notNull())
        .execute()
    },
  },
]
