/** Reads messages from JSON files that people write. */
import { readFile } from 'node:fs/promises'
import { type DescMessage, fromJsonString, type MessageShape } from '@bufbuild/protobuf'
import { UsageError } from '../command.ts'

/** The message in a file of proto3 JSON. */
export async function readJson<S extends DescMessage>(path: string, schema: S): Promise<MessageShape<S>> {
  const text = await readText(path)
  try {
    return fromJsonString(schema, text)
  } catch (error) {
    throw new UsageError(`${path} is no ${schema.typeName}: ${error instanceof Error ? error.message : error}`)
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`)
  }
}
