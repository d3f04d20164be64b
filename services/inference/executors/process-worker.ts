/** The process of a process executor with ONNX Runtime in it. */
import { openOnnxSession } from './onnx-session.ts'
import { serveProcess } from './process-side.ts'

await serveProcess(openOnnxSession, Number(process.argv[2]))
process.exit()
