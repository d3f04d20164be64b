/** A replica to be killed: `replica-process.fixture.ts <shared bus> <own folder>`; it writes its address and then works. */

import { startReplica } from './replica.fixture.ts'
import { replicaModels } from './replica-models.fixture.ts'

const [shared = '', own = ''] = process.argv.slice(2)
const { address } = await startReplica({ shared, own, models: replicaModels })
process.stdout.write(`${address}\n`)
