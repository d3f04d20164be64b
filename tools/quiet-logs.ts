/** Runs before every test file: log lines below `error` stay silent, unless `SLIPWAY_LOG_LEVEL=debug` asks for them. */
import { useLogging } from '@slipway/telemetry'

useLogging({ level: process.env.SLIPWAY_LOG_LEVEL === 'debug' ? 'debug' : 'error' })
