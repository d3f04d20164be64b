/** What the command line of `npm start` says. */
import { parseArgs } from 'node:util'

/** Settings of one run. */
export interface Options {
  /** Exit after the summary. */
  readonly once: boolean
  /** Run the services as five processes. */
  readonly processes: boolean
  /** Put the events on this Kafka broker, `host:port`; undefined: the embedded bus. */
  readonly kafka: string | undefined
  readonly dataDir: string
  /** Port of the traffic-router; the others follow: four services, and inference over HTTP. */
  readonly portBase: number
  /** Print one JSON object on stdout and nothing else. */
  readonly json: boolean
  /** Switch distance to kilometres part-way; false plays clean weeks only. */
  readonly fault: boolean
  /** Seed of the sampling and the training. */
  readonly seed: number
  /** First day of the training weeks, `YYYY-MM-DD`. */
  readonly firstDay: string
}

/** The command line is wrong; the message says what is right. */
export class UsageError extends Error {}

/** Help for `npm start -- --help`. */
export const usage = `Usage: npm start -- [options]

Runs registry, feature-store, inference, traffic-router and drift-monitor on this machine and plays the flights example.

  --once               exit after the summary: 0 when the story held, else 1 with the step that did not
  --json               print one JSON object on stdout and nothing else
  --processes          run the services as five processes; one that dies is started again
  --kafka HOST:PORT    put the events on a real broker (default: embedded, in the data folder)
  --data-dir DIR       where everything is kept (default: .slipway)
  --port-base N        port of the traffic-router; the other services take the next five (default: 7400)
  --no-fault           play clean weeks only: nothing changes its unit, nothing is retrained
  --seed N             seed of sampling and training (default: 1)
  --first-day DATE     first day of the training weeks, 2001-01-22 to 2001-04-01 (default: 2001-01-22)
  --help               this text
`

const flags = {
  once: { type: 'boolean', default: false },
  processes: { type: 'boolean', default: false },
  kafka: { type: 'string' },
  'data-dir': { type: 'string', default: '.slipway' },
  'port-base': { type: 'string', default: '7400' },
  json: { type: 'boolean', default: false },
  'no-fault': { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  'first-day': { type: 'string', default: '2001-01-22' },
  help: { type: 'boolean', default: false },
} as const

/** Reads the command line; `'help'` when help is asked for. Throws UsageError with every problem in one message. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const { values } = parse(args)
  if (values.help) return 'help'
  const problems: string[] = []
  const whole = (name: 'port-base' | 'seed', min: number, max: number) => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < min || value > max) {
      problems.push(`--${name} takes a whole number from ${min} to ${max}, not '${values[name]}'`)
    }
    return value
  }
  if (values.kafka !== undefined && !isAddress(values.kafka)) {
    problems.push(`--kafka takes HOST:PORT, for example 127.0.0.1:9092, not '${values.kafka}'`)
  }
  const firstDay = values['first-day']
  if (!/^2001-\d\d-\d\d$/.test(firstDay) || firstDay < '2001-01-22' || firstDay > '2001-04-01') {
    problems.push(`--first-day takes a day from 2001-01-22 to 2001-04-01, not '${firstDay}'`)
  }
  const options: Options = {
    once: values.once,
    processes: values.processes,
    kafka: values.kafka,
    dataDir: values['data-dir'],
    portBase: whole('port-base', 1024, 65530),
    json: values.json,
    fault: !values['no-fault'],
    seed: whole('seed', 0, 2 ** 31 - 1),
    firstDay,
  }
  if (problems.length > 0) throw new UsageError(problems.join('\n'))
  return options
}

function isAddress(text: string): boolean {
  const port = Number(/^[^:\s]+:(\d{1,5})$/.exec(text)?.[1])
  return port >= 1 && port <= 65_535
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: flags, strict: true, allowPositionals: false })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}
