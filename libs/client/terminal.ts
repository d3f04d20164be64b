/** Text for people: tables, bars, colours, progress. */

/** Where a command writes. */
export interface Terminal {
  /** Results. */
  out(text: string): void
  /** Everything else. */
  err(text: string): void
  readonly width: number
  readonly colours: boolean
  /** Standard error is a terminal: progress may be drawn there. */
  readonly drawsProgress: boolean
}

/** What a text can look like. */
export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

const codes: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
}

/** The text in a style, where the terminal shows styles. */
export function styled(terminal: Pick<Terminal, 'colours'>, style: Style, text: string): string {
  const [on, off] = codes[style]
  return terminal.colours ? `\u001b[${on}m${text}\u001b[${off}m` : text
}

/** Columns under a heading; numbers to the right, everything else to the left. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return 'none\n'
  const all = [header.map((cell) => cell.toUpperCase()), ...rows]
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)))
  const right = header.map((_, column) => rows.every((row) => /^[-+]?[\d., ]*%?$/.test(row[column] ?? '')))
  const lines = all.map((row) =>
    row
      .map((cell, column) => (right[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  '),
  )
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`
}

/** Names and values, one a line; empty values are left out. */
export function fields(entries: readonly (readonly [string, string | undefined])[]): string {
  const shown = entries.filter((entry): entry is readonly [string, string] => entry[1] !== undefined && entry[1] !== '')
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('')
}

const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']
const heights = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']

/** A horizontal bar for a share from 0 to 1, padded to `width` cells. */
export function bar(share: number, width: number): string {
  const units = Math.round(Math.min(1, Math.max(0, share)) * width * 8)
  return `${'█'.repeat(units >> 3)}${eighths[units & 7]}`.padEnd(width)
}

/** One character a value, its height relative to `top`; a blank for nothing. */
export function sparkline(values: readonly number[], top: number): string {
  return values
    .map((value) => (value <= 0 ? ' ' : heights[Math.min(7, Math.max(0, Math.ceil((value / top) * 8) - 1))]))
    .join('')
}

/** A progress line on standard error that draws over itself; silent where standard error is no terminal. */
export interface Progress {
  update(share: number, note: string): void
  end(): void
}

/** Starts a progress line. */
export function progress(terminal: Terminal, label: string): Progress {
  if (!terminal.drawsProgress) return { update: () => {}, end: () => {} }
  return {
    update: (share, note) => {
      const percent = `${Math.floor(share * 100)}`.padStart(3)
      terminal.err(`\r\u001b[2K${label} ${bar(share, 24)} ${percent} % ${note}`)
    },
    end: () => terminal.err('\r\u001b[2K'),
  }
}

/** A number of bytes, such as `1.4 MiB`. */
export function bytesText(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB']
  let value = count
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** A number with thin groups of thousands, such as `50 000`. */
export function countText(count: number | bigint): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ' ')
}

/** A share as a percentage with one decimal. */
export function percentText(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}

/** A number with four significant digits, without trailing zeros. */
export function numberText(value: number): string {
  if (!Number.isFinite(value) || value === 0) return String(value)
  return Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6
    ? String(Number(value.toPrecision(4)))
    : value.toExponential(1)
}

/** The name of an enum's value in lower-case words, such as `no material drift`. */
export function enumText(values: Readonly<Record<string, number>>, value: number | undefined): string {
  const name = Object.keys(values).find((key) => values[key] === value)
  return name === undefined ? `unknown (${value})` : name.toLowerCase().replaceAll('_', ' ')
}
