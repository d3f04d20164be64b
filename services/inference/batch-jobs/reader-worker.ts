/**
 * The process that reads and writes the files of batch jobs with DuckDB: away from the serving process, with a bound on its
 * memory. It takes one task at a time from its parent, over file descriptor 3, and ends with it.
 */
import { Socket } from 'node:net'
import { DuckDBInstance } from '@duckdb/node-api'
import type { CallAnswer } from './calls.ts'
import { cutInput, describe } from './cut-input.ts'
import { encodeFrame, type Frame, FrameReader } from './frames.ts'
import { InputError } from './input-error.ts'
import type { FromReader, ReaderLimits, ReaderResults, ReaderTask, ToReader } from './reader-protocol.ts'
import { type Connections, inspectPart, writePart } from './write-part.ts'

const PARENT_DESCRIPTOR = 3

const limits = JSON.parse(process.argv[2] ?? '{}') as ReaderLimits
const parent = new Socket({ fd: PARENT_DESCRIPTOR, readable: true, writable: true })
const calls = new Map<number, PromiseWithResolvers<CallAnswer>>()
let nextCall = 1

parent.on('close', () => process.exit(0)).on('error', () => process.exit(0))
const reader = new FrameReader<ToReader>(hear)
parent.on('data', (chunk: Buffer) => reader.push(chunk))

function say(message: FromReader, pieces: readonly Buffer[] = []): void {
  parent.cork()
  for (const piece of encodeFrame(message, pieces)) parent.write(piece)
  parent.uncork()
}

function hear({ head, pieces }: Frame<ToReader>): void {
  if (head.kind === 'task') {
    run(head.task).then(
      (result) => say({ kind: 'done', result }),
      (error: unknown) => say({ kind: 'failed', ...problemOf(error) }),
    )
    return
  }
  const { call, errors, elapsedMs } = head
  calls.get(call)?.resolve({ tensors: pieces, errors, elapsedMs })
  calls.delete(call)
}

function ask(inputs: readonly Buffer[], rows: number, first: number): Promise<CallAnswer> {
  const call = nextCall++
  const answered = Promise.withResolvers<CallAnswer>()
  calls.set(call, answered)
  say({ kind: 'call', call, rows, first }, inputs)
  return answered.promise
}

async function run(task: ReaderTask): Promise<ReaderResults[keyof ReaderResults]> {
  const instance = await DuckDBInstance.create(':memory:', {
    threads: '1',
    memory_limit: `${limits.memoryMiB}MiB`,
    temp_directory: limits.tempDirectory,
  })
  const connections = { connection: await instance.connect(), answering: await instance.connect() }
  try {
    for (const each of Object.values(connections)) await each.run(`set TimeZone = 'UTC'`)
    return await perform(connections, task)
  } finally {
    for (const each of Object.values(connections)) each.closeSync()
    instance.closeSync()
  }
}

function perform(connections: Connections, task: ReaderTask): Promise<ReaderResults[keyof ReaderResults]> {
  const { connection } = connections
  switch (task.kind) {
    case 'describe':
      return describe(connection, task.format, task.path)
    case 'cut':
      return cutInput(connection, task.recipe, task.files)
    case 'inspect':
      return inspectPart(connection, task.path)
    case 'write':
      return writePart(connections, task, limits, ask)
  }
}

function problemOf(error: unknown): { message: string; isInput: boolean } {
  const message = error instanceof Error ? error.message : String(error)
  return { message, isInput: error instanceof InputError }
}
