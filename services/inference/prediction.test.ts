import { Code, Failure } from '@slipway/rpc'
import { expect, test, vi } from 'vitest'
import { type PlannedRequest, type PredictionStream, StreamPrediction } from './prediction.ts'
import { VersionStatistics } from './statistics.ts'

test('a message of a stream has the last listener told that its stream is closed, and nobody once it is over', () => {
  const stream: PredictionStream = { isClosed: false, closing: new Set(), send: vi.fn(), fail: vi.fn() }
  const planned: Partial<PlannedRequest> = {
    statistics: new VersionStatistics(),
    plan: { group: {}, rows: 1 } as PlannedRequest['plan'],
    request: Buffer.from('an id'),
    envelope: { idStart: 0, idEnd: 5 } as PlannedRequest['envelope'],
  }
  const prediction = new StreamPrediction(planned as PlannedRequest, stream)
  const [replaced, told] = [vi.fn(), vi.fn()]
  prediction.onCancel(replaced)
  prediction.onCancel(told)
  expect([...stream.closing]).toEqual([told])
  const failure = new Failure(Code.UNAVAILABLE, 'STOPPING', 'the server stops')
  prediction.fail(failure)
  expect(stream.closing.size).toBe(0)
  expect(stream.fail).toHaveBeenCalledExactlyOnceWith('an id', failure)
})
