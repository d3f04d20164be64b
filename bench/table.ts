/** Reports as text. */
import type { Figure, Report } from './benchmark.ts'

/** The figures as a table, with what is known beyond them above it. */
export function formatReport({ rows, details }: Report): string {
  const figures = formatTable([['figure', 'value', 'unit', 'target', 'holds'], ...rows.map(cellsOf)])
  return details === undefined ? figures : `${formatTable(details)}\n${figures}`
}

/** Lines of cells in columns; those that hold numbers only are set to the right. */
export function formatTable(lines: readonly (readonly string[])[]): string {
  const columns = Math.max(0, ...lines.map((line) => line.length))
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  )
  const isNumeric = widths.map((_, column) => lines.slice(1).every((line) => /^[-+\d.]*$/.test(line[column] ?? '')))
  const format = (line: readonly string[]): string =>
    line
      .map((cell, column) =>
        isNumeric[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd()
  return `${lines.map(format).join('\n')}\n`
}

function cellsOf({ what, value, unit, target = '', holds }: Figure): string[] {
  return [what, formatValue(value), unit, target, holds === undefined ? '' : holds ? 'yes' : 'NO']
}

function formatValue(value: number): string {
  if (Number.isInteger(value)) return String(value)
  const magnitude = Math.abs(value)
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 3)
}
