/** A service as small as one can be, for the tests of its process. */
import { type Environment, readSettings } from '@slipway/config'
import { type RunningService, readServiceSettings, runAsProcess } from './index.ts'

/** Starts nothing but a timer, and says on stdout what happens to it. */
async function start(env: Environment): Promise<RunningService> {
  const { listen } = readSettings(env, (read) => readServiceSettings(read, { name: 'fixture', defaultPort: 7499 }))
  process.stdout.write('starting\n')
  await new Promise((resolve) => setTimeout(resolve, 50))
  if (listen.host === 'broken') throw new Error('no such host')
  const work = setInterval(() => {}, 60_000)
  process.stdout.write('started\n')
  return {
    address: `${listen.host}:${listen.port}`,
    stop: async () => {
      process.stdout.write('stopping\n')
      await new Promise((resolve) => setTimeout(resolve, 50))
      clearInterval(work)
      process.stdout.write('stopped\n')
    },
  }
}

await runAsProcess(import.meta.url, process, start)
