import { expect, test } from 'vitest'
import { fitBoostedTrees, type Matrix, predictBoostedTrees } from './boosting.ts'
import { fitOnThread } from './fit.ts'

test('the thread fits and answers as the functions do, and tells how far it is', async () => {
  const column = Float32Array.from({ length: 500 }, (_, i) => (i * 7919) % 500)
  const matrix: Matrix = { names: ['x'], columns: [column], rows: 500 }
  const labels = Uint8Array.from(column, (value) => Number(value > 250))
  const options = { trees: 5, maxDepth: 2, learningRate: 0.3, minLeafHessian: 1, lambda: 1, rowShare: 1, seed: 1 }
  const progress: number[] = []
  const fitted = await fitOnThread({ matrix, labels, options, answer: matrix }, (done) => progress.push(done))
  const model = fitBoostedTrees(matrix, labels, options)
  expect(fitted).toEqual({ model, probabilities: predictBoostedTrees(model, matrix) })
  expect(progress).toEqual([0.2, 0.4, 0.6, 0.8, 1])
})
