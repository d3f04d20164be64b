/**
 * Tracers and meters that outlive the SDK's starts and stops.
 *
 * OpenTelemetry's own instruments are bound when they are created: one created before the SDK started measures nothing
 * for ever, one created before a restart writes to the SDK that is gone. These look up theirs anew on every start.
 * There is one of each per scope and name, so what is kept here is bounded by the names in the code.
 */

import type {
  Meter as ApiMeter,
  Attributes,
  Context,
  Counter,
  Gauge,
  Histogram,
  MetricOptions,
  ObservableCallback,
  ObservableGauge,
  SpanOptions,
  Tracer,
  UpDownCounter,
} from '@opentelemetry/api'
import { metrics, trace } from '@opentelemetry/api'
import { detailsOf } from './names.ts'

/** The part of OpenTelemetry's meter that Slipway uses. */
export type Meter = Pick<
  ApiMeter,
  'createCounter' | 'createGauge' | 'createHistogram' | 'createObservableGauge' | 'createUpDownCounter'
>

interface Binding<T> {
  readonly handle: T
  bind(): void
}

let running = false
const bindings = new Map<string, Binding<unknown>>()

/** Whether spans and measurements go anywhere; hot paths ask before they prepare any. */
export function telemetryRuns(): boolean {
  return running
}

/** Points every tracer and instrument at the SDK that has just started, or at nothing. */
export function rebind(toRunning: boolean): void {
  running = toRunning
  for (const binding of bindings.values()) binding.bind()
}

/** The tracer of a scope, such as `slipway.rpc`. */
export function tracer(scope: string): Tracer {
  return handleOf(`tracer ${scope}`, () => bindTracer(scope))
}

/** The meter of a scope; instruments named in `names.ts` take unit and description from there. */
export function meter(scope: string): Meter {
  const key = (kind: string, name: string) => `${kind} ${scope} ${name}`
  return {
    createCounter: <A extends Attributes>(name: string, options?: MetricOptions) =>
      handleOf<Counter<A>>(key('counter', name), () =>
        bindAdding(() => metrics.getMeter(scope).createCounter(name, described(name, options))),
      ),
    createUpDownCounter: <A extends Attributes>(name: string, options?: MetricOptions) =>
      handleOf<UpDownCounter<A>>(key('upDownCounter', name), () =>
        bindAdding(() => metrics.getMeter(scope).createUpDownCounter(name, described(name, options))),
      ),
    createHistogram: <A extends Attributes>(name: string, options?: MetricOptions) =>
      handleOf<Histogram<A>>(key('histogram', name), () =>
        bindRecording(() => metrics.getMeter(scope).createHistogram(name, described(name, options))),
      ),
    createGauge: <A extends Attributes>(name: string, options?: MetricOptions) =>
      handleOf<Gauge<A>>(key('gauge', name), () =>
        bindRecording(() => metrics.getMeter(scope).createGauge(name, described(name, options))),
      ),
    createObservableGauge: <A extends Attributes>(name: string, options?: MetricOptions) =>
      handleOf<ObservableGauge<A>>(key('observableGauge', name), () =>
        bindObserving(() => metrics.getMeter(scope).createObservableGauge<A>(name, described(name, options))),
      ),
  }
}

function handleOf<T>(key: string, create: () => Binding<T>): T {
  const known = bindings.get(key) as Binding<T> | undefined
  if (known !== undefined) return known.handle
  const binding = create()
  bindings.set(key, binding)
  binding.bind()
  return binding.handle
}

function bindTracer(scope: string): Binding<Tracer> {
  let target = trace.getTracer(scope)
  const startActiveSpan = (name: string, ...rest: [unknown]) =>
    (target.startActiveSpan as (name: string, ...rest: [unknown]) => unknown).call(target, name, ...rest)
  return {
    handle: {
      startSpan: (name: string, options?: SpanOptions, within?: Context) => target.startSpan(name, options, within),
      startActiveSpan: startActiveSpan as Tracer['startActiveSpan'],
    },
    bind: () => {
      target = trace.getTracer(scope)
    },
  }
}

type Add = (value: number, attributes?: Attributes, within?: Context) => void

function bindAdding(create: () => { add: Add }): Binding<{ add: Add }> {
  let target: { add: Add } | undefined
  return {
    handle: { add: (value, attributes, within) => target?.add(value, attributes, within) },
    bind: () => {
      target = running ? create() : undefined
    },
  }
}

function bindRecording(create: () => { record: Add }): Binding<{ record: Add }> {
  let target: { record: Add } | undefined
  return {
    handle: { record: (value, attributes, within) => target?.record(value, attributes, within) },
    bind: () => {
      target = running ? create() : undefined
    },
  }
}

function bindObserving<A extends Attributes>(create: () => ObservableGauge<A>): Binding<ObservableGauge<A>> {
  const callbacks = new Set<ObservableCallback<A>>()
  let target: ObservableGauge<A> | undefined
  return {
    handle: {
      addCallback: (callback) => {
        callbacks.add(callback)
        target?.addCallback(callback)
      },
      removeCallback: (callback) => {
        callbacks.delete(callback)
        target?.removeCallback(callback)
      },
    },
    bind: () => {
      target = running ? create() : undefined
      for (const callback of callbacks) target?.addCallback(callback)
    },
  }
}

function described(name: string, options: MetricOptions | undefined): MetricOptions {
  const details = detailsOf(name)
  if (details === undefined) return { ...options }
  const { unit, description, buckets } = details
  return { unit, description, ...(buckets && { advice: { explicitBucketBoundaries: [...buckets] } }), ...options }
}
