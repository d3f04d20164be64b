/** What the service does besides answering calls: opened together, started when models answer, ended together. */
import { join } from 'node:path'
import type { EventBus } from '@slipway/events'
import type { Implementation } from '@slipway/rpc'
import { openBus, type ServiceSettings } from '@slipway/service'
import { createAsyncPredictions } from './async-predictions/async-predictions.ts'
import type { AsyncPredictionSettings } from './async-predictions/settings.ts'
import type { Inference } from './infer.ts'

/** One concept of the service, wired. */
export interface Room {
  readonly implementations: readonly Implementation[]
  /** Begins its work; called once, when models answer. */
  start(): void
  /** Ends it; called once the bus is closed, whether it was started or not. */
  stop(): Promise<void>
}

/** What the rooms need from around them. */
export interface RoomsOptions {
  readonly config: ServiceSettings & AsyncPredictionSettings
  readonly inference: Inference
}

/** Opens the rooms that the settings ask for. */
export async function openRooms({ config, inference }: RoomsOptions): Promise<Room> {
  const rooms: Room[] = []
  const buses: EventBus[] = []
  if (config.answersAsyncRequests) {
    const bus = openBus(config, 'slipway-inference')
    buses.push(bus)
    const directory = join(config.dataDirectory, 'async-predictions')
    rooms.push(await createAsyncPredictions({ ...config, bus, inference, directory }))
  }
  return {
    implementations: rooms.flatMap(({ implementations }) => implementations),
    start: () => {
      for (const room of rooms) room.start()
    },
    stop: async () => {
      await Promise.all(buses.map((bus) => bus.close()))
      await Promise.all(rooms.map((room) => room.stop()))
    },
  }
}
