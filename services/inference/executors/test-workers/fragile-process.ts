/** A process with the fragile model in it. */
import { serveProcess } from '../process-side.ts'
import { openFragileSession } from './fragile-session.fixture.ts'

await serveProcess(openFragileSession, 1)
