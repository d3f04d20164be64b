/** What the rules of `tidy.ts` allow where. Each line here is a decision; an exception is a debt. */

/** Where a third-party package may be imported. */
export interface AdapterRule {
  readonly name: RegExp
  readonly in: readonly RegExp[]
  /** Tests may import it anywhere. */
  readonly tests?: boolean
  /** Its types may be named anywhere. */
  readonly types?: boolean
}

/** Third-party packages with a place of their own; those that are not named here may be used where declared. */
export const adapters: readonly AdapterRule[] = [
  { name: /^@grpc\//, in: [/^libs\/rpc\//, /^bench\//], tests: true },
  { name: /^@bufbuild\/protovalidate$/, in: [/^libs\/rpc\//] },
  { name: /^@bufbuild\/cel/, in: [/^libs\/pipelines\//] },
  { name: /^@connectrpc\//, in: [], tests: true },
  { name: /^kafkajs$/, in: [/^libs\/events\/kafka[\w-]*\.ts$/], tests: true },
  { name: /^kysely$/, in: [/^libs\/storage\//, /^services\/[\w-]+\/([\w-]+\/)?[\w-]+\.ts$/], types: true },
  {
    name: /^@duckdb\//,
    in: [
      /^services\/feature-store\//,
      /^services\/inference\/batch-jobs\//,
      /^examples\/flights\//,
      /^libs\/models\/parquet\.ts$/,
      /^bench\/(servers\/)?batch-[\w-]+\.ts$/,
    ],
    tests: true,
  },
  { name: /^onnxruntime-node$/, in: [/^services\/inference\//, /^bench\//], tests: true },
  { name: /^vega-datasets$/, in: [/^examples\/flights\//] },
  { name: /^@opentelemetry\/sdk-/, in: [/^libs\/telemetry\//], tests: true },
  { name: /^@opentelemetry\/api$/, in: [/^libs\/(telemetry|rpc|events)\//], types: true },
  { name: /^(rolldown|vitest|vite)$/, in: [/^tools\//, /^vitest\.config\.ts$/], tests: true },
]

/** Files that a process starts with: they alone see its arguments and its environment, and may end it. */
export const entries: readonly RegExp[] = [
  /(^|\/)main\.ts$/,
  /^libs\/client\/cli\.ts$/,
  /(^|\/)[\w-]*worker\.ts$/,
  /^tools\/(bootstrap\.mjs|(test|verify|generate|breaking|command|quiet-logs|repeatable-properties)\.ts)$/,
  /^tools\/backends\//,
  /^bench\//,
]

/** Modules that decide and must not know the time, chance or the outside. */
export const pure: readonly RegExp[] = [/^libs\/stats\//]

/** Limits of length. A function's lines are its own, without those of the functions inside it. */
export const limits = { fileLines: 300, testFileLines: 600, functionLines: 70 } as const

/** What is longer today, and how long it may be: numbers here only ever fall. */
export const exceptions: {
  readonly fileLines: Readonly<Record<string, number>>
  readonly functionLines: Readonly<Record<string, number>>
} = { fileLines: {}, functionLines: {} }
