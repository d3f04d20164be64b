/** A thread in the executor's place for tests: echoes its first input, dies of a byte 66, refuses the model `refuse`. */
import { parentPort, workerData } from 'node:worker_threads'
import { align, type GroupDescription, INPUT_HEAD_WORDS, type ThreadData, type ToThread } from '../layout.ts'

const DEADLY = 66
const port = parentPort
const { model } = workerData as ThreadData
if (Buffer.from(model as Uint8Array).toString() === 'refuse') throw new Error('the model is refused')

let group: GroupDescription | undefined
const inputs: SharedArrayBuffer[] = []

port?.on('message', (message: ToThread) => {
  if (typeof message === 'number') run(message)
  else if (message.kind === 'group') group = message.group
  else if (message.kind === 'input-buffer') inputs[message.slot] = message.buffer
})
port?.postMessage({ kind: 'ready' })

function run(slot: number): void {
  const input = inputs[slot]
  if (input === undefined || group === undefined) throw new Error('a batch without a group')
  const words = new Int32Array(input)
  const bytes = words[INPUT_HEAD_WORDS] ?? 0
  const values = Buffer.from(input, align((INPUT_HEAD_WORDS + group.inputs.length) * 4), bytes)
  if (values.includes(DEADLY)) throw new Error('a deadly byte')
  const output = new SharedArrayBuffer(4096)
  new Int32Array(output).set([1, bytes, 1, words[1] ?? 0])
  Buffer.from(output).set(values, 16)
  port?.postMessage({ kind: 'output-buffer', slot, buffer: output })
  port?.postMessage(slot)
}
