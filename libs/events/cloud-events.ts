import { randomUUID } from 'node:crypto'

/** The names of CloudEvents 1.0 attributes in the Kafka binding's binary mode. */
export const cloudEventHeader = {
  specVersion: 'ce_specversion',
  id: 'ce_id',
  source: 'ce_source',
  type: 'ce_type',
  time: 'ce_time',
  contentType: 'content-type',
} as const

/** The content type of events whose data is a protobuf message. */
export const protobufContentType = 'application/protobuf'

/** Headers that make a record a CloudEvent; source and id together name the event. */
export function cloudEventHeaders(source: string, type: string, timeMs: number): Record<string, string> {
  return {
    [cloudEventHeader.specVersion]: '1.0',
    [cloudEventHeader.id]: randomUUID(),
    [cloudEventHeader.source]: source,
    [cloudEventHeader.type]: type,
    [cloudEventHeader.time]: new Date(timeMs).toISOString(),
    [cloudEventHeader.contentType]: protobufContentType,
  }
}
