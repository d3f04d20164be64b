/** Requests by what is the same in all of a caller: the head by its bytes, and the layout of one request for the next of the same kind. */
import type { ModelInferRequest } from '@slipway/proto/inference/grpc_service'
import { decodeHead, type Plan } from './plan.ts'
import { invalid, malformed } from './refusals.ts'
import type { Servable } from './servable.ts'
import type { VersionStatistics } from './statistics.ts'
import { hasContents } from './typed-tensors.ts'
import { type Envelope, isText, scanRequest } from './wire.ts'

const MAX_KNOWN_HEADS = 4096
const MAX_KNOWN_HEAD_BYTES = 4096
/** Layouts that are known at a time, one for each remainder of a request's length. */
const LAYOUTS = 64
const MAX_LAYOUT_BYTES = 4096
/** A layout is given up after so many requests in a row of another one: kinds that come in turn do not chase each other out. */
const MISSES_TO_GIVE_UP = 4
/** Longest id of a request. */
export const MAX_ID_BYTES = 1024

/** How a head is run by a version. */
export interface PlannedHead {
  readonly version: Servable
  readonly plan: Plan
  readonly statistics: VersionStatistics
}

/** A head that was decoded. */
export interface KnownHead {
  readonly model: string
  readonly version: string
  readonly request: ModelInferRequest
  /** The first input with typed contents; -1 when there is none. */
  readonly typedInput: number
  /** The plan for the version that answered it last. */
  known: PlannedHead | undefined
}

/** The parts of a request. */
export interface ReadRequest {
  readonly envelope: Envelope
  readonly head: KnownHead
}

/** How a request was laid out. Another one of the same length with the same bytes but for id and raw tensors has the same parts. */
interface Layout extends ReadRequest {
  readonly bytes: Buffer
  /** Everything but id and raw tensors: the first byte, the byte after the last, and so on. */
  readonly fixed: readonly number[]
}

/** See the top of this file. Heads are forgotten all at once when they are too many. */
export class KnownHeads {
  readonly #heads = new Map<string, KnownHead>()
  readonly #layouts: (Layout | undefined)[] = Array.from({ length: LAYOUTS }, () => undefined)
  readonly #misses = new Uint8Array(LAYOUTS)

  /** Finds the parts of a request. Throws INVALID_ARGUMENT where it is none. */
  read(request: Buffer): ReadRequest {
    const place = request.length % LAYOUTS
    const layout = this.#layouts[place]
    if (layout !== undefined && isLaidOutAs(request, layout)) {
      checkId(request, layout.envelope)
      this.#misses[place] = 0
      return layout
    }
    const envelope = scan(request)
    const read = { envelope, head: this.#find(envelope.head) }
    if (request.length <= MAX_LAYOUT_BYTES && read.head.typedInput < 0) this.#remember(place, request, read)
    return read
  }

  #remember(place: number, request: Buffer, read: ReadRequest): void {
    const misses = (this.#misses[place] ?? 0) + 1
    this.#misses[place] = misses
    if (this.#layouts[place] !== undefined && misses < MISSES_TO_GIVE_UP) return
    this.#misses[place] = 0
    this.#layouts[place] = layoutOf(request, read)
  }

  #find(head: string): KnownHead {
    const known = this.#heads.get(head)
    if (known !== undefined) return known
    const request = decodeHead(head)
    const fresh: KnownHead = {
      model: request.modelName,
      version: request.modelVersion,
      request,
      typedInput: request.inputs.findIndex((input) => hasContents(input.contents)),
      known: undefined,
    }
    if (fresh.typedInput >= 0 || head.length > MAX_KNOWN_HEAD_BYTES) return fresh
    if (this.#heads.size >= MAX_KNOWN_HEADS) {
      this.#heads.clear()
      this.#layouts.fill(undefined)
    }
    this.#heads.set(head, fresh)
    return fresh
  }
}

function scan(request: Buffer): Envelope {
  let envelope: Envelope
  try {
    envelope = scanRequest(request)
  } catch (cause) {
    throw malformed(cause)
  }
  if (envelope.idEnd - envelope.idStart > MAX_ID_BYTES)
    throw invalid('id', `the id is longer than ${MAX_ID_BYTES} bytes`)
  checkId(request, envelope)
  return envelope
}

/** An id goes back as it came: one that is no text would make the answer unreadable. */
function checkId(request: Buffer, { idStart, idEnd }: Envelope): void {
  if (!isText(request, idStart, idEnd)) throw invalid('id', 'the id is not UTF-8')
}

function layoutOf(request: Buffer, read: ReadRequest): Layout {
  const { idStart, idEnd, raws } = read.envelope
  const free: [number, number][] = [[idStart, idEnd]]
  for (let index = 0; index < raws.length; index += 2) free.push([raws[index] as number, raws[index + 1] as number])
  const fixed = [0]
  for (const [start, end] of free.sort(([left], [right]) => left - right)) fixed.push(start, end)
  fixed.push(request.length)
  return { ...read, bytes: Buffer.from(request), fixed }
}

function isLaidOutAs(request: Buffer, { bytes, fixed }: Layout): boolean {
  if (request.length !== bytes.length) return false
  for (let index = 0; index < fixed.length; index += 2) {
    const end = fixed[index + 1] as number
    for (let at = fixed[index] as number; at < end; at++) if (request[at] !== bytes[at]) return false
  }
  return true
}
