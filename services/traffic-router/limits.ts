/** The limits of the router that no setting changes, by name. */

/** Characters of a caller's name that an error repeats; longer ones would not fit into a header. */
export const MAX_ECHOED_CHARACTERS = 128

/** Instances of one Predict call. */
export const MAX_INSTANCES = 1024

/** Characters of a routing key. */
export const MAX_ROUTING_KEY_CHARACTERS = 256

/** Requests of one caller's stream that wait for an answer; the stream is read on when half of them are answered. */
export const MAX_STREAM_IN_FLIGHT = 1024

/** Entity keys of one instance. */
export const MAX_ENTITY_KEYS = 64
