import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeFrame, type Frame, FrameReader } from './frames.ts'

test('messages come out as they went in, however the stream is cut', () => {
  const message = fc.record({
    head: fc.jsonValue(),
    pieces: fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 3 }),
  })
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.array(fc.integer({ min: 1, max: 9 })), (messages, cuts) => {
      const bytes = Buffer.concat(messages.flatMap(({ head, pieces }) => encodeFrame(head, pieces)))
      const found: Frame<unknown>[] = []
      const reader = new FrameReader<unknown>((frame) => found.push(frame))
      let at = 0
      for (let index = 0; at < bytes.length; index++) {
        const size = cuts[index] ?? bytes.length
        reader.push(bytes.subarray(at, at + size))
        at += size
      }
      expect(found).toHaveLength(messages.length)
      for (const [index, { head, pieces }] of messages.entries()) {
        expect(found[index]?.head).toEqual(JSON.parse(JSON.stringify(head)))
        expect(found[index]?.pieces.map((piece) => [...piece])).toEqual(pieces.map((piece) => [...piece]))
      }
    }),
  )
})
