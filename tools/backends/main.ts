/** `node tools/backends/main.ts [kafka|postgres|redis …]` starts servers, prints how tests find them, and runs until Ctrl-C. */
import { type BackendName, startBackends } from './index.ts'

const names: readonly string[] = ['kafka', 'postgres', 'redis']
const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !names.includes(name))

if (unknown.length > 0) {
  process.stderr.write(`unknown: ${unknown.join(', ')}; known: ${names.join(', ')}\n`)
  process.exit(2)
}

const backends = await startBackends({
  ...(wanted.length === 0 ? {} : { only: wanted as BackendName[] }),
  require: process.env.REQUIRE_BACKENDS === '1',
  say: (line) => process.stderr.write(`${line}\n`),
})
for (const [name, value] of Object.entries(backends.env)) process.stdout.write(`export ${name}=${value}\n`)
const stop = (): void => void backends.stop().then(() => process.exit(0))
process.once('SIGINT', stop).once('SIGTERM', stop)
// Servers do not keep this process alive, waiting for a signal does.
setInterval(() => undefined, 2 ** 30)
