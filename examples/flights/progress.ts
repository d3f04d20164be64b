/** Progress on stderr: a bar that redraws itself in a terminal, a line for every quarter otherwise. */
import type { WriteStream } from 'node:tty'

/** One stage of the story. */
export interface Stage {
  /** How far it is, 0 to 1, and what a person may want to read beside it. */
  update(done: number, note?: string): void
  /** It is over; the note stays on the screen. */
  end(note?: string): void
}

/** Where stages are shown. */
export interface Progress {
  stage(name: string): Stage
  /** A line of its own, above the running bar. */
  line(text: string): void
}

const barWidth = 24
const nameWidth = 22

/** Shows progress on a stream, as a terminal or as lines. */
export function openProgress(stream: Pick<WriteStream, 'write'> & { isTTY?: boolean; columns?: number }): Progress {
  const terminal = stream.isTTY === true
  let drawn = ''
  const draw = (text: string) => {
    drawn = text.slice(0, (stream.columns ?? 120) - 1)
    stream.write(`\r\x1b[K${drawn}`)
  }
  const line = (text: string) => stream.write(terminal ? `\r\x1b[K${text}\n${drawn}` : `${text}\n`)
  const stage = (name: string): Stage => {
    const label = name.padEnd(nameWidth)
    let quarter = 0
    return {
      update(done, note = '') {
        const percent = `${Math.floor(done * 100)}`.padStart(3)
        if (terminal) draw(`${label} ${bar(done)} ${percent} % ${note}`)
        else if (Math.floor(done * 4) > quarter) {
          quarter = Math.floor(done * 4)
          if (quarter < 4) stream.write(`${label} ${percent} % ${note}\n`)
        }
      },
      end(note = '') {
        drawn = ''
        stream.write(terminal ? `\r\x1b[K${label} ${bar(1)} 100 % ${note}\n` : `${label} 100 % ${note}\n`)
      },
    }
  }
  return { stage, line }
}

function bar(done: number): string {
  const filled = Math.round(Math.min(Math.max(done, 0), 1) * barWidth)
  return '█'.repeat(filled) + '░'.repeat(barWidth - filled)
}
