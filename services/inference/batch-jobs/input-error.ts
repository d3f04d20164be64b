/** Something is wrong with the input of a job, and trying again will not help. The message never holds a value. */
export class InputError extends Error {}
