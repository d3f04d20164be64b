/** The limits of the router that no setting changes, by name. */

/** Characters of a caller's name that an error repeats; longer ones would not fit into a header. */
export const MAX_ECHOED_CHARACTERS = 128

/** Instances of one Predict call. */
export const MAX_INSTANCES = 1024

/** Characters of a routing key. */
export const MAX_ROUTING_KEY_CHARACTERS = 256

/** Characters of an OIP request id that is taken as prediction id; others get one of their own. */
export const MAX_PREDICTION_ID_CHARACTERS = 128

/** Pieces of feedback in one call. */
export const MAX_FEEDBACK_ITEMS = 10_000
