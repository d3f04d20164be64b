/** Property tests draw the same cases in every run, so that a red run is the change's fault; another seed explores others. */
import fc from 'fast-check'

const DEFAULT_SEED = 20_261_121

fc.configureGlobal({ seed: Number(process.env.SLIPWAY_PROPERTY_SEED ?? DEFAULT_SEED) })
