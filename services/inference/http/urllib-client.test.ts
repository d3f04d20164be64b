/** The protocol over HTTP as a client sees it that is not ours: Python's urllib. */
import { execFile, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { identityModel } from '@slipway/onnx'
import { expect, test } from 'vitest'
import { serveHttp } from './http-server.fixture.ts'

const run = promisify(execFile)
const script = fileURLToPath(new URL('urllib-client.fixture.py', import.meta.url))
const hasPython = spawnSync('python3', ['-c', 'import urllib.request']).status === 0
const datatypes = [
  ...(['BOOL', 'INT8', 'INT16', 'INT32', 'INT64', 'UINT8', 'UINT16', 'UINT32', 'UINT64'] as const),
  ...(['FP32', 'FP64'] as const),
]

test.skipIf(!hasPython && process.env.REQUIRE_BACKENDS !== '1')(
  "Python's urllib gets back what it sent, as JSON, compressed and as binary data, and reads why not",
  async () => {
    const models = datatypes.map((datatype) => ({ model: datatype.toLowerCase(), bytes: identityModel(datatype) }))
    const server = await serveHttp(models)
    try {
      const { stdout } = await run('python3', [script, server.url])
      expect(JSON.parse(stdout)).toEqual({
        checked: datatypes.length * 9,
        wrong: [],
        live: { live: true },
        metadata: {
          name: 'fp32',
          versions: ['1'],
          platform: 'onnxruntime_onnx',
          inputs: [{ name: 'input', datatype: 'FP32', shape: [-1] }],
          outputs: [{ name: 'output', datatype: 'FP32', shape: [-1] }],
        },
        statuses: [400, 400, 405, 404],
        error: "expected 1 inputs but got 0 inputs for model 'fp32'",
      })
    } finally {
      await server.stop()
    }
  },
)
