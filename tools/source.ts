/** What the style rules need to know about a TypeScript file, read from its syntax tree. */
import { parseSync, Visitor } from 'rolldown/utils'

/** One module that a file asks for. */
export interface ImportFact {
  readonly specifier: string
  readonly line: number
  /** Types alone are asked for: nothing is loaded when the program runs. */
  readonly typeOnly: boolean
}

/** One function, method or arrow function. */
export interface FunctionFact {
  readonly line: number
  /** Its lines without those of the functions inside it. */
  readonly ownLines: number
}

/** What one source file says. */
export interface SourceFacts {
  readonly imports: readonly ImportFact[]
  readonly functions: readonly FunctionFact[]
  readonly starExports: readonly number[]
  readonly defaultExports: readonly number[]
  /** Exports without a doc comment right before them, by name. */
  readonly undocumented: readonly { readonly name: string; readonly line: number }[]
  /** Every `object.property` with plain names on both sides, such as `process.env`. */
  readonly members: readonly { readonly name: string; readonly line: number }[]
  /** Every property of an object literal whose name is written as a string. */
  readonly stringKeys: readonly { readonly name: string; readonly line: number }[]
  /** Every plain name that is used as a value or a type. */
  readonly names: readonly { readonly name: string; readonly line: number }[]
}

interface Span {
  readonly start: number
  readonly end: number
}

/**
 * Parses a file.
 *
 * @throws SyntaxError naming the file when it does not parse
 */
export function readSource(path: string, text: string): SourceFacts {
  const { program, comments, errors } = parseSync(path, text)
  const firstError = errors[0]
  if (firstError !== undefined) throw new SyntaxError(`${path}: ${firstError.message}`)
  const lineAt = createLineIndex(text)
  const docEnds = new Set(
    comments.filter((c) => c.type === 'Block' && c.value.startsWith('*')).map((c) => skipSpace(text, c.end)),
  )
  const imports: ImportFact[] = []
  const functions: Span[] = []
  const starExports: number[] = []
  const defaultExports: number[] = []
  const exported: { name: string; start: number }[] = []
  const members: { name: string; line: number }[] = []
  const stringKeys: { name: string; line: number }[] = []
  const names: { name: string; line: number }[] = []
  const addImport = (source: { value: unknown }, start: number, typeOnly: boolean) => {
    if (typeof source.value === 'string') imports.push({ specifier: source.value, line: lineAt(start), typeOnly })
  }
  const addFunction = ({ start, end }: Span) => functions.push({ start, end })

  new Visitor({
    ImportDeclaration: (node) => addImport(node.source, node.start, node.importKind === 'type'),
    ImportExpression: (node) => node.source.type === 'Literal' && addImport(node.source, node.start, false),
    TSImportType: (node) => addImport(node.source, node.start, true),
    ExportAllDeclaration: (node) => {
      addImport(node.source, node.start, node.exportKind === 'type')
      starExports.push(lineAt(node.start))
    },
    ExportDefaultDeclaration: (node) => defaultExports.push(lineAt(node.start)),
    ExportNamedDeclaration: (node) => {
      if (node.source !== null) addImport(node.source, node.start, node.exportKind === 'type')
      for (const name of declaredNames(node.declaration)) exported.push({ name, start: node.start })
    },
    MemberExpression: ({ object, property, start, computed }) => {
      if (object.type !== 'Identifier') return
      if (!computed && property.type === 'Identifier')
        members.push({ name: `${object.name}.${property.name}`, line: lineAt(start) })
    },
    Property: ({ key, start }) => {
      if (key.type === 'Literal' && typeof key.value === 'string')
        stringKeys.push({ name: key.value, line: lineAt(start) })
    },
    Identifier: ({ name, start }) => names.push({ name, line: lineAt(start) }),
    FunctionDeclaration: addFunction,
    FunctionExpression: addFunction,
    ArrowFunctionExpression: addFunction,
  }).visit(program)

  return {
    imports,
    functions: measure(functions, lineAt),
    starExports,
    defaultExports,
    undocumented: withoutDoc(exported, docEnds).map(({ name, start }) => ({ name, line: lineAt(start) })),
    members,
    stringKeys,
    names,
  }
}

/** An overload is documented when one of its signatures is. */
function withoutDoc(exported: readonly { name: string; start: number }[], docEnds: ReadonlySet<number>) {
  const documented = new Set(exported.filter(({ start }) => docEnds.has(start)).map(({ name }) => name))
  return exported.filter(({ name }) => !documented.has(name))
}

interface Declaration {
  readonly type: string
  readonly id?: unknown
  readonly declarations?: readonly { readonly id: unknown }[]
}

function declaredNames(declaration: Declaration | null): string[] {
  const ids = declaration?.declarations?.map(({ id }) => id) ?? [declaration?.id]
  return ids.flatMap((id) => (isNamed(id) ? [id.name] : []))
}

function isNamed(id: unknown): id is { name: string } {
  return typeof id === 'object' && id !== null && 'name' in id && typeof id.name === 'string'
}

function measure(functions: readonly Span[], lineAt: (offset: number) => number): FunctionFact[] {
  const lines = functions.map(({ start, end }) => ({ first: lineAt(start), last: lineAt(end), start, end }))
  return lines.map((outer) => {
    const inside = lines.filter((other) => other !== outer && other.start >= outer.start && other.end <= outer.end)
    const covered = new Set<number>()
    // The first and the last line of an inner function are shared with what is around it.
    for (const inner of inside) for (let line = inner.first + 1; line < inner.last; line += 1) covered.add(line)
    return { line: outer.first, ownLines: outer.last - outer.first + 1 - covered.size }
  })
}

function createLineIndex(text: string): (offset: number) => number {
  const starts = [0]
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1)
  return (offset) => {
    let low = 0
    let high = starts.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((starts[middle] ?? Number.POSITIVE_INFINITY) <= offset) low = middle
      else high = middle
    }
    return low + 1
  }
}

function skipSpace(text: string, from: number): number {
  const rest = /\S/.exec(text.slice(from))
  return rest === null ? text.length : from + rest.index
}
