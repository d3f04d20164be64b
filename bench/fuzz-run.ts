/** Many callers that send wrong requests, and what came of it. */
import { toBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import { type FuzzCaller, openSession, streamCaller, unaryCaller } from './fuzz-client.ts'
import { judge } from './fuzz-oracle.ts'
import { Chance, goodRequest, nextRequest } from './fuzz-requests.ts'

const MAX_KEPT_SURPRISES = 20
const GOOD_REQUESTS = 200
const REPORT_EVERY = 1000

/** What to do. */
export interface FuzzPlan {
  readonly address: string
  /** Requests that have to be wrong; those that a change left right come on top. */
  readonly malformed: number
  readonly connections: number
  /** Callers of each connection, half of them on streams. */
  readonly callers: number
  readonly seed: number
  /** Hears how many wrong requests were answered, from time to time. */
  readonly onProgress?: (malformed: number) => void
}

/** What came of it. */
export interface FuzzResult {
  readonly sent: number
  /** Those that must not be answered with OK. */
  readonly malformed: number
  /** Answers by the name of their code. */
  readonly answers: Readonly<Record<string, number>>
  /** Requests that were answered otherwise than they may be, or not at all. */
  readonly surprises: number
  /** The first of them, in base64, with what came and what should have. */
  readonly examples: readonly { readonly request: string; readonly got: string; readonly expected: readonly string[] }[]
  /** Right requests after all that, and how many of them were answered with the right values. */
  readonly checked: number
  readonly right: number
  /** Connections that the server ended. */
  readonly lost: number
}

const names = new Map<number, string>(Object.entries(Code).map(([name, code]) => [code, name]))
const nameOf = (code: number | undefined): string => (code === undefined ? 'none' : (names.get(code) ?? `code ${code}`))

/** Sends the requests, then right ones over the same connections. */
export async function runFuzz(plan: FuzzPlan): Promise<FuzzResult> {
  const result = { sent: 0, malformed: 0, surprises: 0, checked: 0, right: 0, lost: 0 }
  const answers: Record<string, number> = {}
  const examples: FuzzResult['examples'][number][] = []

  async function sendWrong(caller: FuzzCaller, chance: Chance): Promise<void> {
    while (result.malformed < plan.malformed && result.lost === 0) {
      const request = nextRequest(chance)
      const codes = judge(request)
      result.sent++
      if (!codes.has(Code.OK) && ++result.malformed % REPORT_EVERY === 0) plan.onProgress?.(result.malformed)
      const { code } = await caller.ask(request)
      answers[nameOf(code)] = (answers[nameOf(code)] ?? 0) + 1
      if (code !== undefined && codes.has(code as Code)) continue
      result.surprises++
      if (examples.length < MAX_KEPT_SURPRISES) {
        examples.push({ request: request.toString('base64'), got: nameOf(code), expected: [...codes].map(nameOf) })
      }
    }
  }

  async function sendRight(caller: FuzzCaller, chance: Chance): Promise<void> {
    const { request, expected } = goodRequest(chance)
    const bytes = Buffer.from(toBinary(ModelInferRequestSchema, request))
    const { response } = await caller.ask(bytes)
    result.checked++
    const raws = response?.rawOutputContents ?? []
    if (raws.length === expected.length && expected.every((raw, index) => raw.equals(raws[index] ?? Buffer.of(0)))) {
      result.right++
    }
  }

  const sessions = Array.from({ length: plan.connections }, () => openSession(plan.address, () => result.lost++))
  const callers = sessions.flatMap((session) =>
    Array.from({ length: plan.callers }, (_, index) =>
      index % 2 === 0 ? unaryCaller(session) : streamCaller(session),
    ),
  )
  const chances = callers.map((_, index) => new Chance(plan.seed * 7919 + index))
  const all = (act: (caller: FuzzCaller, chance: Chance) => Promise<void>) =>
    Promise.all(callers.map((caller, index) => act(caller, chances[index] ?? new Chance(index))))
  await all(sendWrong)
  while (result.checked < GOOD_REQUESTS && result.lost === 0) await all(sendRight)
  for (const session of sessions) session.destroy()
  return { ...result, answers, examples }
}
