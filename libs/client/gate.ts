/** Runs the validation gate to its report. */
import type { GateReport } from '@slipway/proto/slipway/registry/v1/model'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'

/** Judges a version, `models/{model}/versions/{number}`, against the champion; a report that failed is no error. */
export async function runGate(
  registry: Pick<Client<typeof RegistryService>, 'runGate'>,
  name: string,
  onProgress: (percent: number, stage: string) => void = () => {},
  signal?: AbortSignal,
): Promise<GateReport> {
  let report: GateReport | undefined
  for await (const step of registry.runGate({ name }, signal && { signal })) {
    onProgress(step.percent, step.stage)
    report = step.report ?? report
  }
  if (report !== undefined) return report
  throw new Failure(Code.UNAVAILABLE, 'GATE_BROKE_OFF', `the gate of ${name} ended without a report`)
}
