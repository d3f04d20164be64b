/**
 * The thread that ends a process executor's process when the server that started it is gone. The channel tells that too, but only to a
 * process that reads it: a model that never returns would keep its process, and all that it holds, for ever. On systems that give
 * an orphan no other parent nothing happens.
 */
import { workerData } from 'node:worker_threads'

const INTERVAL_MS = 500

setInterval(() => {
  if (process.ppid !== workerData) process.kill(process.pid, 'SIGKILL')
}, INTERVAL_MS)
