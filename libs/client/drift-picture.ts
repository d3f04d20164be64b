/** Draws a drift report: the distribution of the reference and that of the window, side by side. */

import type { FeatureReport, Report, VersionReport } from '@slipway/proto/slipway/drift/v1/drift_service'
import { VerdictState } from '@slipway/proto/slipway/drift/v1/monitor'
import type { CategoricalCells, NumericCells } from '@slipway/proto/slipway/registry/v1/model'
import { momentText } from './moment.ts'
import { shortName } from './resource-name.ts'
import {
  bar,
  countText,
  fields,
  numberText,
  percentText,
  type Style,
  sparkline,
  styled,
  type Terminal,
} from './terminal.ts'

/** How much to draw. */
export interface PictureOptions {
  /** Draw every cell of these; drifting ones are always drawn in full. */
  readonly inFull: (name: string) => boolean
}

const verdicts = new Map<VerdictState, readonly [string, Style]>([
  [VerdictState.INSUFFICIENT_DATA, ['not judged', 'yellow']],
  [VerdictState.NO_MATERIAL_DRIFT, ['no material drift', 'green']],
  [VerdictState.DRIFT, ['DRIFT', 'red']],
])

/** The report as text. */
export function drawReport(terminal: Terminal, report: Report, options: PictureOptions): string {
  const head = fields([
    ['monitor', report.monitor && shortName(report.monitor.name)],
    ['endpoint', report.monitor && shortName(report.monitor.endpoint)],
    ['counted', `${countText(report.predictions)} predictions up to ${momentText(report.watermark) || 'now'}`],
    ['labels', `${countText(report.labelsJoined)} of ${countText(report.labelsReceived)} joined`],
    ['too late', report.tooLate === 0n ? '' : countText(report.tooLate)],
  ])
  return [head, ...report.versions.map((version) => drawVersion(terminal, version, options))].join('\n')
}

function drawVersion(terminal: Terminal, version: VersionReport, options: PictureOptions): string {
  const { performance } = version
  const shared = sharedReason(version.features)
  const title = `${shortName(version.modelVersion)}  ${version.digest}`
  const scores = Object.entries({ logLoss: performance?.logLoss, auc: performance?.auc, brier: performance?.brier })
  const known = scores.flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${numberText(value)}`]))
  const lines = [
    styled(terminal, 'bold', title),
    `${countText(version.predictions)} predictions, ${percentText(performance?.coverage ?? 0)} labelled${known.length > 0 ? `: ${known.join(', ')}` : ''}`,
    ...[version.problem, shared].filter(Boolean).map((text) => styled(terminal, 'yellow', text)),
    '',
  ]
  const loudestFirst = version.features.toSorted((a, b) => (b.verdict?.alarmRatio ?? 0) - (a.verdict?.alarmRatio ?? 0))
  return `${lines.join('\n')}\n${loudestFirst.map((feature) => drawFeature(terminal, feature, { ...options, said: shared })).join('\n')}`
}

/** What keeps every feature from being judged is said once. */
function sharedReason(features: readonly FeatureReport[]): string {
  const reasons = new Set(features.map(({ verdict }) => verdict?.reason ?? ''))
  return reasons.size === 1 && features.length > 1 ? ([...reasons][0] ?? '') : ''
}

function drawFeature(
  terminal: Terminal,
  feature: FeatureReport,
  options: PictureOptions & { readonly said: string },
): string {
  const { verdict } = feature
  const name = verdict?.name ?? ''
  const state = verdict?.state ?? VerdictState.UNSPECIFIED
  const [word, style] = verdicts.get(state) ?? ['not looked at', 'dim']
  const effect =
    verdict === undefined || state === VerdictState.INSUFFICIENT_DATA
      ? ''
      : `effect ${numberText(verdict.effect)} (${numberText(verdict.effectLow)} to ${numberText(verdict.effectHigh)})` +
        `, p ${numberText(verdict.pValue)} against ${numberText(verdict.pThreshold)}`
  const sizes =
    verdict === undefined ? '' : `${countText(verdict.sampleSize)} rows against ${countText(verdict.referenceSize)}`
  const head = [`${styled(terminal, 'bold', name)}  ${styled(terminal, style, word)}`, effect, sizes]
    .filter(Boolean)
    .join('  ')
  const reason =
    verdict?.reason && verdict.reason !== options.said ? `  ${styled(terminal, 'yellow', verdict.reason)}\n` : ''
  const full = state === VerdictState.DRIFT || options.inFull(name)
  const body = full
    ? drawDistribution(terminal, feature)
    : drawSparklines(terminal, shares(feature.referenceCounts), shares(feature.currentCounts))
  return `${head}\n${reason}${body}`
}

/** Every cell that is not empty, the reference's share and the window's side by side. */
export function drawDistribution(
  terminal: Terminal,
  { cells, referenceCounts, currentCounts }: Pick<FeatureReport, 'cells' | 'currentCounts' | 'referenceCounts'>,
): string {
  return drawCells(terminal, cellLabels(cells), shares(referenceCounts), shares(currentCounts))
}

function drawCells(
  terminal: Terminal,
  labels: readonly string[],
  reference: readonly number[],
  current: readonly number[],
): string {
  const top = Math.max(...reference, ...current, Number.MIN_VALUE)
  const labelWidth = Math.max(9, ...labels.map(({ length }) => length))
  const barWidth = Math.max(8, Math.min(30, Math.floor((terminal.width - labelWidth - 26) / 2)))
  const cell = (share: number) => `${percentText(share).padStart(7)} ${bar(share / top, barWidth)}`
  const title = `  ${''.padEnd(labelWidth)}  ${'reference'.padEnd(barWidth + 8)}  window`
  const lines = labels.flatMap((label, index) => {
    const [before = 0, now = 0] = [reference[index], current[index]]
    return before === 0 && now === 0 ? [] : [`  ${label.padEnd(labelWidth)}  ${cell(before)}  ${cell(now)}`.trimEnd()]
  })
  return `${styled(terminal, 'dim', title)}\n${lines.join('\n')}\n`
}

function drawSparklines(terminal: Terminal, reference: readonly number[], current: readonly number[]): string {
  const top = Math.max(...reference, ...current, Number.MIN_VALUE)
  const line = (label: string, values: readonly number[]) =>
    `  ${styled(terminal, 'dim', label.padEnd(9))}  ${sparkline(values, top)}`.trimEnd()
  return `${line('reference', reference)}\n${line('window', current)}\n`
}

function shares(counts: readonly bigint[]): number[] {
  const total = Number(counts.reduce((sum, count) => sum + count, 0n))
  return counts.map((count) => (total === 0 ? 0 : Number(count) / total))
}

/** The cells in the order of the counts; see `slipway.registry.v1.NumericCells`. */
function cellLabels(cells: FeatureReport['cells']): string[] {
  if (cells.case === 'numeric') return numericLabels(cells.value)
  return cells.case === 'categorical' ? categoricalLabels(cells.value) : []
}

function numericLabels({ edges }: NumericCells): string[] {
  const bins = edges.slice(1).map((high, index) => {
    const closing = index === edges.length - 2 ? ']' : ')'
    return `[${numberText(edges[index] ?? Number.NaN)}, ${numberText(high)}${closing}`
  })
  return [
    ...bins,
    `below ${numberText(edges[0] ?? Number.NaN)}`,
    `above ${numberText(edges.at(-1) ?? Number.NaN)}`,
    'missing',
    'not finite',
  ]
}

function categoricalLabels({ values }: CategoricalCells): string[] {
  return [...values, 'unseen', 'missing']
}
