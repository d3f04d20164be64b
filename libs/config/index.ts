/** Settings from an environment object, every problem reported at once. */

export type {
  Environment,
  NumberOptions,
  OptionalTextOptions,
  QuantityOptions,
  SettingProblem,
  SettingsReader,
  TextOptions,
} from './settings.ts'
export { ConfigError, readSettings } from './settings.ts'
export type { SocketAddress } from './values.ts'
