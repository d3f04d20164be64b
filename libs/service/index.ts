/** What every service process has: the settings that all share, the way to the bus, a start and a stop. */
export { openBus } from './bus.ts'
export { type HostProcess, type RunningService, runAsProcess } from './process.ts'
export { readServiceSettings, type ServiceOptions, type ServiceSettings } from './settings.ts'
