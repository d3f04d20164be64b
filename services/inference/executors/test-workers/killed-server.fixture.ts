/** A server for tests to kill: starts an executor in a process, says the process's id, hands it the batch that it is asked to, and goes on. */
import { createProcessExecutor } from '../process-executor.ts'
import { misdeed } from './fragile-session.fixture.ts'

const executor = await createProcessExecutor(new URL('./fragile-process.ts', import.meta.url))({
  name: 'm',
  model: Buffer.from('fragile'),
  intraOpThreads: 1,
  events: {
    done: (_, { outputs }) => {
      if (process.argv[2] === 'runs-for-ever') run(misdeed.never)
      process.stdout.write(`${outputs[0]?.bytes.readUInt32LE()}\n`)
    },
    failed: () => process.exit(1),
    died: () => process.exit(1),
  },
})
const group = { id: 1, inputs: [{ name: 'input', datatype: 'UINT8', dims: [-1] }], outputs: ['output'] } as const
const run = (deed: number): void =>
  executor.run({ group, rows: 4, members: [{ bytes: Buffer.of(deed, 0, 0, 0), offsets: [0, 4] }] })
run(misdeed.tellProcess)
