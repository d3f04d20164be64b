/** How resources are written on the wire: their times, and the pages of their lists. */
export { maxPageBytes, page, pageSizeOf, pageToken, parsePageToken } from './pages.ts'
export { durationFromMicros, microsFromDuration, microsFromTimestamp, timestampFromMicros } from './time.ts'
