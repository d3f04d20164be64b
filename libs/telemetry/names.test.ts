import { expect, test } from 'vitest'
import { attribute, metric, metricDetails } from './names.ts'

const grammar = /^[a-z][a-z0-9]*(_[a-z0-9]+)*(\.[a-z][a-z0-9]*(_[a-z0-9]+)*)+$/
const namespaces = ['slipway', 'nodejs', 'rpc', 'messaging', 'error', 'server']
const unitWords = /(^|[._])(ms|millis|milliseconds|seconds|micros|bytes|total|count)$/

test.each([...Object.values(attribute), ...Object.values(metric)])('%s follows the grammar of names', (name) => {
  expect(name).toMatch(grammar)
  expect(namespaces).toContain(name.split('.')[0])
})

test.each(Object.entries(metricDetails))('%s has a unit outside its name, and a description', (name, details) => {
  expect(name).not.toMatch(unitWords)
  expect(details.unit).toMatch(/^(1|s|By|\{[a-z]+\})$/)
  expect(details.description).toMatch(/^[A-Z].*[^.]$/)
})

const ours = Object.entries(metricDetails).filter(([name]) => !name.startsWith('nodejs.'))

test.each(ours)('%s ends in duration exactly when it is a length of time', (name, details) => {
  expect(name.endsWith('.duration')).toBe(details.unit === 's')
})

test('no two keys share a name', () => {
  for (const table of [attribute, metric]) {
    const names = Object.values(table)
    expect(new Set(names).size).toBe(names.length)
  }
})

test.each(Object.entries(metricDetails))(
  '%s has ascending buckets exactly when it is a histogram',
  (_name, details) => {
    expect(details.buckets !== undefined).toBe(details.kind === 'histogram')
    const buckets = details.buckets ?? []
    expect(buckets.toSorted((a, b) => a - b)).toEqual(buckets)
  },
)
