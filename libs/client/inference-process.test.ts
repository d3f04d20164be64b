import { expect, test } from 'vitest'
import { startInference } from './inference-process.ts'

test('what to install is said when the inference service is not there', () => {
  const missing = () => {
    throw new Error('Cannot find package')
  }
  expect(() => startInference({}, () => {}, missing)).toThrow('npm install @slipway/inference')
})
