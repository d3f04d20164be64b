import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Journal } from '../journal.ts'
import { describeOnlineStore } from './online-store.contract.ts'
import { openRowTables } from './row-tables.ts'
import { SqliteOnlineStore } from './sqlite.ts'

describeOnlineStore('SQLite', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-online-'))
  const open = async () => {
    const database = await openRowTables(join(directory, 'rows.db'))
    const journal = new Journal(database)
    return { database, journal, store: new SqliteOnlineStore({ database, journal }) }
  }
  let opened = await open()
  return {
    store: opened.store,
    reopen: async () => {
      opened.database.close()
      opened = await open()
      return opened.store
    },
    journalled: () => opened.journal.pending().reduce((sum, { rowCount }) => sum + rowCount, 0),
    close: async () => {
      opened.database.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
})
