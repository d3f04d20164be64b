/** Tables of the definitions and datasets. */
import type { Migration } from '@slipway/storage'
import { sql } from 'kysely'

/** The tables. Definitions and manifests are bytes of their protobuf messages; times are microseconds since the epoch. */
export interface Schema {
  entities: { name: string; definition: Uint8Array }
  /** `table_id` names the view's rows in all stores and is never used again. */
  feature_views: { name: string; table_id: number; digest: string }
  feature_view_versions: { name: string; digest: string; definition: Uint8Array }
  feature_services: { name: string; digest: string }
  feature_service_versions: { name: string; digest: string; definition: Uint8Array }
  table_ids: { id: number }
  datasets: { name: string; dataset: Uint8Array; create_micros: number }
  /** Which dataset answered a request that named its revision. */
  dataset_requests: { request_key: string; name: string }
}

/** Released steps are never edited. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'definitions and datasets',
    up: async (transaction) => {
      const statements = [
        sql`create table entities (name text primary key, definition blob not null)`,
        sql`create table feature_views (name text primary key, table_id integer not null unique, digest text not null)`,
        sql`create table feature_view_versions (
          name text not null, digest text not null, definition blob not null, primary key (name, digest))`,
        sql`create table feature_services (name text primary key, digest text not null)`,
        sql`create table feature_service_versions (
          name text not null, digest text not null, definition blob not null, primary key (name, digest))`,
        sql`create table table_ids (id integer primary key)`,
        sql`create table datasets (name text primary key, dataset blob not null, create_micros bigint not null)`,
        sql`create index datasets_by_age on datasets (create_micros desc, name)`,
        sql`create table dataset_requests (request_key text primary key, name text not null references datasets)`,
      ]
      for (const statement of statements) await statement.execute(transaction)
    },
  },
]
