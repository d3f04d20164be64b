/** The thread of a thread executor with ONNX Runtime in it. */
import { openOnnxSession } from './onnx-session.ts'
import { serveThread } from './thread-side.ts'

serveThread(openOnnxSession)
