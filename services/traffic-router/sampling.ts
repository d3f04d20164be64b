/**
 * Which predictions are logged. The choice follows from the prediction id alone, so that a repeated call, another
 * replica and another kind of log choose the same ones: the sample of a smaller rate lies inside that of a larger one.
 */
import { hashUnit } from '@slipway/stats'

/** The salt of all sampling; apart from every endpoint's salt, so that sampling tells nothing about the variant. */
export const SAMPLING_SALT = 'slipway.sampling'

/** Whether a prediction is in the sample of `rate`, 0 to 1. */
export function isSampled(predictionId: string, rate: number): boolean {
  if (rate >= 1) return true
  if (!(rate > 0)) return false
  return hashUnit(predictionId, SAMPLING_SALT) < rate
}
