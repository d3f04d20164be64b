/** Loaded before a service that runs under the standalone supervisor: the service leaves when its parent is gone. */
process.channel?.unref()
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
