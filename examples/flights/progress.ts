/**
 * Progress on stderr: a bar that redraws itself in a terminal, a line for every quarter otherwise. Of stages that run
 * at the same time a terminal shows the one that began last.
 */
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
  /** Takes the bar off the screen for good; lines may follow. */
  close(): void
}

const barWidth = 24
const nameWidth = 22
const clearLine = '\r\x1b[K'

/** Shows progress on a stream, as a terminal or as lines. */
export function openProgress(stream: Pick<WriteStream, 'write'> & { isTTY?: boolean; columns?: number }): Progress {
  return stream.isTTY === true ? openBars(stream) : openLines(stream)
}

function openBars(stream: Pick<WriteStream, 'write'> & { columns?: number }): Progress {
  /** What each running stage last said, in the order in which they began. */
  const running = new Map<symbol, string>()
  let closed = false
  const cut = (text: string) => text.slice(0, (stream.columns || 80) - 1)
  const shown = () => (closed ? '' : cut([...running.values()].at(-1) ?? ''))
  const stage = (name: string): Stage => {
    const id = Symbol(name)
    const text = (done: number, note: string) => `${name.padEnd(nameWidth)} ${bar(done)} ${percent(done)} % ${note}`
    return {
      update(done, note = '') {
        running.set(id, text(done, note))
        if (!closed) stream.write(`${clearLine}${shown()}`)
      },
      end(note = '') {
        running.delete(id)
        stream.write(`${clearLine}${text(1, note)}\n${shown()}`)
      },
    }
  }
  return {
    stage,
    line: (text) => stream.write(`${clearLine}${text}\n${shown()}`),
    close: () => {
      closed = true
      stream.write(clearLine)
    },
  }
}

function openLines(stream: Pick<WriteStream, 'write'>): Progress {
  const stage = (name: string): Stage => {
    const say = (done: number, note: string) =>
      stream.write(`${`${name.padEnd(nameWidth)} ${percent(done)} % ${note}`.trimEnd()}\n`)
    let quarter = 0
    return {
      update(done, note = '') {
        if (Math.floor(done * 4) <= quarter) return
        quarter = Math.floor(done * 4)
        if (quarter < 4) say(done, note)
      },
      end: (note = '') => say(1, note),
    }
  }
  return { stage, line: (text) => stream.write(`${text}\n`), close: () => undefined }
}

const percent = (done: number) => `${Math.floor(done * 100)}`.padStart(3)

function bar(done: number): string {
  const filled = Math.round(Math.min(Math.max(done, 0), 1) * barWidth)
  return '█'.repeat(filled) + '░'.repeat(barWidth - filled)
}
