import type { ChildProcess } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installKafka, type KafkaInstallation, kafkaVersion } from './kafka-install.ts'
import { freePorts, run, startServer, stopServer, waitForPort } from './process.ts'

/** A broker of its own, with a controller in the same process. */
export interface RunningKafka {
  /** The broker's own address, whatever it advertises. */
  readonly brokers: readonly string[]
  /** What it is, for people. */
  readonly description: string
  readonly pid: number
  /** Ends the broker at once, as a crash would; its data stays. */
  kill(): Promise<void>
  /** Starts it again on the same data and port, after a clean stop if it runs. */
  restart(): Promise<void>
  stop(): Promise<void>
}

const startTimeoutMs = 60_000
const stopTimeoutMs = 20_000

/** How a broker differs from the usual one. */
export interface KafkaOptions {
  /** Where clients are told to go, such as a proxy before the broker; default the broker's own port. */
  readonly advertisedPort?: number
}

/** Starts Apache Kafka on loopback with settings for tests: small, quick to form groups, quick to come back. */
export async function startKafka(options: KafkaOptions = {}): Promise<RunningKafka> {
  const installation = await installKafka()
  await makeClassArchive(installation)
  return await startBroker(installation, [], options)
}

async function startBroker(
  installation: KafkaInstallation,
  moreOptions: readonly string[],
  { advertisedPort }: KafkaOptions = {},
): Promise<RunningKafka> {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-kafka-'))
  const [port = 0, controllerPort = 0] = await freePorts(2)
  const configPath = join(directory, 'server.properties')
  await mkdir(join(directory, 'data'))
  await writeFile(configPath, settings(port, controllerPort, advertisedPort ?? port, join(directory, 'data')))
  const { java, classPath, archivePath } = installation
  const archive = existsSync(archivePath) ? [`-XX:SharedArchiveFile=${archivePath}`] : []
  const fast = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', ...archive]
  const id = randomBytes(16)
  // Must not begin with a hyphen, which the tool would take for an option.
  id.writeUInt8(id.readUInt8() & 0x7f)
  const clusterId = id.toString('base64url')
  const format = ['-cp', classPath, 'kafka.tools.StorageTool', 'format', '-c', configPath, '-t', clusterId]

  let child: ChildProcess | undefined
  async function start(): Promise<void> {
    const args = ['-Xmx256m', ...fast, ...moreOptions, '-cp', classPath, 'kafka.Kafka', configPath]
    const logPath = join(directory, 'log.txt')
    const started = startServer(java, args, logPath, directory)
    child = started
    try {
      await waitForPort(port, started, startTimeoutMs)
    } catch (cause) {
      const log = await readFile(logPath, 'utf8')
      throw new Error(`Kafka did not start:\n${log.slice(-2000)}`, { cause })
    }
  }
  async function end(): Promise<void> {
    if (child !== undefined) await stopServer(child, stopTimeoutMs)
  }
  async function stop(): Promise<void> {
    await end()
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await run(java, [...fast, ...format])
    await start()
  } catch (error) {
    await stop()
    throw error
  }

  return {
    brokers: [`127.0.0.1:${port}`],
    description: `Apache Kafka ${kafkaVersion}`,
    get pid() {
      return child?.pid ?? 0
    },
    kill: async () => {
      child?.kill('SIGKILL')
      await end()
    },
    restart: async () => {
      await end()
      await start()
    },
    stop,
  }
}

/** Makes the archive of loaded classes that halves the start, once per machine: one start and one clean stop. */
async function makeClassArchive(installation: KafkaInstallation): Promise<void> {
  const { archivePath } = installation
  if (existsSync(archivePath)) return
  const partial = `${archivePath}.${randomUUID()}`
  const broker = await startBroker(installation, [`-XX:ArchiveClassesAtExit=${partial}`])
  await broker.stop()
  if (existsSync(partial)) await rename(partial, archivePath)
}

function settings(port: number, controllerPort: number, advertisedPort: number, dataDirectory: string): string {
  return Object.entries({
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: `BROKER://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `BROKER://127.0.0.1:${advertisedPort}`,
    'listener.security.protocol.map': 'BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name': 'BROKER',
    'log.dirs': dataDirectory,
    // One broker: its internal topics have one replica, and one partition keeps the start and the disk small.
    'num.partitions': 1,
    'default.replication.factor': 1,
    'min.insync.replicas': 1,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 1,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'share.coordinator.state.topic.num.partitions': 1,
    // Groups form at once, readers may be missed soon, no topic appears by accident.
    'group.initial.rebalance.delay.ms': 0,
    'group.min.session.timeout.ms': 1000,
    'auto.create.topics.enable': false,
    'num.network.threads': 2,
    'num.io.threads': 2,
    'log.cleaner.dedupe.buffer.size': 2_097_152,
    'log.cleaner.threads': 1,
    'log.index.size.max.bytes': 1_048_576,
    // A broker that was killed may register again only when its old session has ended.
    'broker.session.timeout.ms': 1000,
    'broker.heartbeat.interval.ms': 250,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')
}
