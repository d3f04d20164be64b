/**
 * Loaded before a service that runs under the standalone supervisor: the service drains and leaves when its parent is
 * gone, and does not outlive it when draining takes too long.
 */
const leaveWithinMs = 15_000

process.channel?.unref()
// Nobody reads what it says any more: that must not end it before it has drained.
process.stderr.on('error', () => undefined)
process.on('disconnect', () => {
  process.kill(process.pid, 'SIGTERM')
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), leaveWithinMs).unref()
})
