/** Runs one command line against an environment that is handed in, so that tests can run it as well. */
import { Code, codeName, Failure } from '@slipway/rpc'
import { addressesOf, addressOptions } from './cli-addresses.ts'
import { tlsOf, tlsOptions } from './cli-tls.ts'
import { helpOf, overview, parseCommandLine, UsageError, type Words } from './command.ts'
import { aliasCommands } from './commands/aliases.ts'
import { batchCommands } from './commands/batch-predictions.ts'
import { driftCommands } from './commands/drift.ts'
import { endpointCommands } from './commands/endpoints.ts'
import { eventCommands } from './commands/events.ts'
import { explainCommands } from './commands/explain.ts'
import { featureCommands } from './commands/features.ts'
import { modelCommands } from './commands/models.ts'
import { pipelineCommands } from './commands/pipelines.ts'
import { predictionCommands } from './commands/predictions.ts'
import { profileCommands } from './commands/profile.ts'
import { serveCommands } from './commands/serve.ts'
import { statusCommands } from './commands/status.ts'
import { versionCommands } from './commands/versions.ts'
import { connect } from './connect.ts'
import type { Command } from './invocation.ts'
import { NameError } from './resource-name.ts'
import { styled, type Terminal } from './terminal.ts'

/** What surrounds a command line. */
export interface CliEnvironment {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly terminal: Terminal
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
}

const globalOptions = {
  json: { doc: 'results as JSON on standard output' },
  ...addressOptions,
  ...tlsOptions,
  help: { doc: 'say how a command is called' },
} as const

const commands: readonly Command[] = [
  ...statusCommands,
  ...modelCommands,
  ...versionCommands,
  ...pipelineCommands,
  ...aliasCommands,
  ...featureCommands,
  ...endpointCommands,
  ...predictionCommands,
  ...batchCommands,
  ...profileCommands,
  ...explainCommands,
  ...driftCommands,
  ...eventCommands,
  ...serveCommands,
]

/** Runs a command line and returns its exit code. */
export async function runCli(words: readonly string[], environment: CliEnvironment): Promise<number> {
  const { terminal } = environment
  try {
    const parsed = parseCommandLine(words, commands, globalOptions)
    if (parsed.kind === 'help') {
      const { of, noun } = parsed
      terminal.out(of === undefined ? overview(commands, globalOptions, noun) : helpOf(of, globalOptions))
      return 0
    }
    await runCommand(parsed.command, parsed.words, environment)
    return 0
  } catch (error) {
    return report(error, environment)
  }
}

async function runCommand(command: Command, words: Words, environment: CliEnvironment): Promise<void> {
  const { env } = environment
  const actor = env.SLIPWAY_ACTOR || env.USER || undefined
  const slipway = connect({ addresses: addressesOf(words, env), tls: tlsOf(words, env), actor })
  try {
    await command.run({ ...environment, words, slipway, json: words.flag('json') })
  } finally {
    slipway.close()
  }
}

function report(error: unknown, { terminal, signal }: CliEnvironment): number {
  if (signal.aborted) return 130
  const title = styled(terminal, 'red', 'slipway:')
  if (error instanceof UsageError || error instanceof NameError) {
    terminal.err(`${title} ${error.message}\n`)
    return 2
  }
  if (error instanceof Failure) {
    terminal.err(`${title} ${describeFailure(error)}`)
    return error.code === Code.INVALID_ARGUMENT ? 2 : 1
  }
  terminal.err(`${title} ${error instanceof Error ? error.message : String(error)}\n`)
  return 1
}

/** A failure in lines: what, then the fields that are wrong, then what would help. */
function describeFailure(failure: Failure): string {
  const lines = [`${failure.message} (${codeName(failure.code)}, ${failure.reason})`]
  const violations = failure.violations.map(({ field, description }) => `${field}: ${description}`)
  for (const violation of violations) if (violation !== failure.message) lines.push(`  ${violation}`)
  if (failure.violations.length === 0) {
    for (const [key, value] of Object.entries(failure.metadata)) lines.push(`  ${key}: ${value}`)
  }
  if (failure.code === Code.UNAVAILABLE)
    lines.push('  is Slipway running? "slipway status" shows who answers; "npm start" starts it')
  return `${lines.join('\n')}\n`
}
