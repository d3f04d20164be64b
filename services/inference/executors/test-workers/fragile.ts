/** A thread with the fragile model in it. */
import { serveThread } from '../thread-side.ts'
import { openFragileSession } from './fragile-session.fixture.ts'

serveThread(openFragileSession)
