/** A process that traces, measures and logs once; prints which OpenTelemetry packages it has loaded. */
import { createRequire } from 'node:module'
import { logger, meter, metric, startTelemetry, tracer } from './index.ts'

const telemetry = startTelemetry({ serviceName: 'slipway-fixture', env: process.env })
tracer('slipway.fixture').startActiveSpan('work', (span) => {
  meter('slipway.fixture').createHistogram(metric.rpcServerDuration).record(0.25)
  logger('slipway.fixture').info('worked')
  span.end()
})
await telemetry.shutdown()
const loaded = Object.keys(createRequire(import.meta.url).cache).filter((path) => path.includes('sdk-node'))
process.stdout.write(JSON.stringify({ sdkLoaded: loaded.length > 0 }))
