import { expect, test } from 'vitest'
import { BoundedLabels } from './bounded-labels.ts'

test('only so many things have labels of their own; the others share one, until some are gone', () => {
  const other = { model: 'other' }
  const labels = new BoundedLabels(2, other)
  const of = (model: string) => labels.of(model, () => ({ model }))
  expect(['a', 'b', 'c', 'd'].map((model) => of(model).model)).toEqual(['a', 'b', 'other', 'other'])
  expect(of('a')).toBe(of('a'))
  labels.release('d')
  expect(of('c')).toBe(other)
  labels.release('a')
  expect(of('c').model).toBe('c')
  expect(of('a')).toBe(other)
})
