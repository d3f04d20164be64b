/** A loop over a Parquet file without a server: read a chunk, run the model, keep the answers, write them all. Told the model and the files. */
import { BIGINT, DuckDBDataChunk, DuckDBInstance, FLOAT } from '@duckdb/node-api'
import binding from '@duckdb/node-bindings'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { FEATURES } from '../model.ts'
import { answerParent } from '../processes.ts'

answerParent(async (message) => {
  const { model, input, output } = message as { model: string; input: string; output: string }
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1 }
  const session = await InferenceSession.create(Buffer.from(model, 'base64'), options)
  const begunMs = performance.now()
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  // A stream of rows ends, without a word, when its connection is used for anything else.
  const reading = await instance.connect()
  const connection = await instance.connect()
  await connection.run('create table answers (id bigint, probability float)')
  const appender = await connection.createAppender('answers')
  const columns = Array.from({ length: FEATURES }, (_, index) => `f${index}::float`)
  const result = await reading.stream(`select id, ${columns} from read_parquet('${input}')`)
  let rows = 0
  for (;;) {
    const chunk = await result.fetchChunk()
    if (chunk === null || chunk.rowCount === 0) break
    rows += chunk.rowCount
    const tensor = new Tensor('float32', features(chunk), [chunk.rowCount, FEATURES])
    const { probability } = await session.run({ features: tensor }, ['probability'])
    appender.appendDataChunk(answers(chunk, probability?.data as Float32Array))
  }
  appender.closeSync()
  await connection.run(`copy answers to '${output}' (format parquet, compression zstd)`)
  const counted = await connection.runAndReadAll(`select count(*)::integer from read_parquet('${input}')`)
  const expected = counted.getRows()[0]?.[0]
  if (rows !== expected) throw new Error(`the loop read ${rows} rows of ${expected}`)
  reading.closeSync()
  connection.closeSync()
  instance.closeSync()
  const elapsedMs = performance.now() - begunMs
  await session.release()
  return elapsedMs
})
process.send?.('ready')

function features(chunk: DuckDBDataChunk): Float32Array {
  const rows = chunk.rowCount
  const values = new Float32Array(rows * FEATURES)
  for (let column = 0; column < FEATURES; column++) {
    const bytes = binding.vector_get_data(binding.data_chunk_get_vector(chunk.chunk, column + 1), rows * 4)
    const source = new Float32Array(bytes.buffer, bytes.byteOffset, rows)
    for (let row = 0, at = column; row < rows; row++, at += FEATURES) values[at] = source[row] as number
  }
  return values
}

function answers(chunk: DuckDBDataChunk, probabilities: Float32Array): DuckDBDataChunk {
  const rows = chunk.rowCount
  const made = DuckDBDataChunk.create([BIGINT, FLOAT], rows)
  const ids = binding.vector_get_data(binding.data_chunk_get_vector(chunk.chunk, 0), rows * 8)
  const source = ids.buffer as ArrayBuffer
  binding.copy_data_to_vector(binding.data_chunk_get_vector(made.chunk, 0), 0, source, ids.byteOffset, rows * 8)
  const target = binding.data_chunk_get_vector(made.chunk, 1)
  binding.copy_data_to_vector(target, 0, probabilities.buffer as ArrayBuffer, probabilities.byteOffset, rows * 4)
  return made
}
