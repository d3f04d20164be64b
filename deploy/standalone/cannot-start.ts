/** The run cannot start as things are here; the message says to a person what is wrong and what to do. */
export class CannotStartError extends Error {}
