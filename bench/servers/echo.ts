/** The baseline: grpc-js answering a unary call in raw bytes, with nothing else to do. */
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js'
import { answerParent } from '../processes.ts'

const same = (bytes: Buffer): Buffer => bytes
const server = new Server()
server.register(
  '/slipway.bench.Echo/Echo',
  (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => answer(null, call.request),
  same,
  same,
  'unary',
)
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error
  process.send?.(`127.0.0.1:${port}`)
})
answerParent(async () => undefined)
