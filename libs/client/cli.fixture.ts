/** The command line as a test runs it: with a terminal that keeps what is written. */
import { runCli } from './run-cli.ts'

/** What came of a command line. */
export interface CliResult {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** How a test runs it. */
export interface CliRun {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly signal?: AbortSignal
  /** Standard error is a terminal that progress is drawn on. */
  readonly drawsProgress?: boolean
}

/** Runs a command line to its end. */
export async function runWords(words: readonly string[], run: CliRun): Promise<CliResult> {
  const { env, signal = new AbortController().signal, drawsProgress = false } = run
  let out = ''
  let err = ''
  const terminal = {
    out: (text: string) => {
      out += text
    },
    err: (text: string) => {
      err += text
    },
    width: 100,
    colours: false,
    drawsProgress,
  }
  const code = await runCli(words, { env, signal, terminal })
  return { code, out, err }
}
