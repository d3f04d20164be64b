import { createRequire } from 'node:module'

interface RequestQueue {
  readonly pending: readonly unknown[]
  readonly throttledUntil: number
  scheduleCheckPendingRequests(): void
}

let isRepaired = false

/**
 * kafkajs arms a timer with a negative delay after every answer, which warns and then runs every millisecond for ever on
 * each connection (tulios/kafkajs#1704, #1751). With this it is armed only when there is something to check. Call it
 * before the first connection.
 */
export function repairKafkajs(): void {
  if (isRepaired) return
  isRepaired = true
  const load = createRequire(import.meta.url)
  const { prototype } = load('kafkajs/src/network/requestQueue') as { prototype: RequestQueue }
  const schedule = prototype.scheduleCheckPendingRequests
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0 || this.throttledUntil > Date.now()) schedule.call(this)
  }
}
