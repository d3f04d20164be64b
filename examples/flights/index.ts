/** The flights example: the main job of Slipway on real data. */
export { printSummary } from './print.ts'
export { openProgress, type Progress } from './progress.ts'
export { type Played, playFlights, type StoryOptions } from './story.ts'
export type { Summary } from './summary.ts'
