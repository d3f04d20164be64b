/** How well scores of a binary classifier fit the labels that came later. */

/** A score and what was true. */
export interface Scored {
  /** Predicted probability of the positive class. */
  readonly score: number
  /** 1 positive, 0 negative. */
  readonly label: number
}

/** Keeps the loss of a certain but wrong score finite. */
const CLIP = 1e-15

/** Area under the ROC curve; ties count half. Undefined while a class has no row. */
export function aucRoc(rows: Iterable<Scored>): number | undefined {
  const sorted = [...rows].sort((a, b) => a.score - b.score)
  const positives = sorted.reduce((sum, { label }) => sum + (label > 0 ? 1 : 0), 0)
  const negatives = sorted.length - positives
  if (positives === 0 || negatives === 0) return undefined
  let rankSum = 0
  let start = 0
  let positivesInTie = 0
  for (const [index, { score, label }] of sorted.entries()) {
    if (label > 0) positivesInTie++
    if (sorted[index + 1]?.score === score) continue
    rankSum += (positivesInTie * (start + index + 2)) / 2
    start = index + 1
    positivesInTie = 0
  }
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives)
}

/** Mean negative log likelihood, natural logarithm. Undefined without rows. */
export function logLoss(rows: Iterable<Scored>): number | undefined {
  return mean(rows, ({ score, label }) => {
    const probability = Math.min(Math.max(label > 0 ? score : 1 - score, CLIP), 1 - CLIP)
    return -Math.log(probability)
  })
}

/** Mean squared error of the score. Undefined without rows. */
export function brierScore(rows: Iterable<Scored>): number | undefined {
  return mean(rows, ({ score, label }) => (score - label) ** 2)
}

/** Sums with Neumaier's compensation, so that the order of rows does not show in the result's first 15 digits. */
function mean(rows: Iterable<Scored>, term: (row: Scored) => number): number | undefined {
  let [sum, lost, count] = [0, 0, 0]
  for (const row of rows) {
    const value = term(row)
    const next = sum + value
    lost += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum
    sum = next
    count++
  }
  return count === 0 ? undefined : (sum + lost) / count
}
