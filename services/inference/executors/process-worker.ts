/** The process of a process executor with ONNX Runtime in it. */
import { writeFileSync } from 'node:fs'
import { openOnnxSession } from './onnx-session.ts'
import { serveProcess } from './process-side.ts'

try {
  // When the machine runs out of memory, Linux ends this process before the server.
  writeFileSync('/proc/self/oom_score_adj', '500')
} catch {
  // Other systems have no such thing.
}
await serveProcess(openOnnxSession, Number(process.argv[2]))
process.exit()
