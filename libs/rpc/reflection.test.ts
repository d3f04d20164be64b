import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { fromBinary } from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt'
import { ServerReflection, type ServerReflectionResponse } from '@slipway/proto/grpc/reflection/v1/reflection'
import {
  ServerReflection as ServerReflectionAlpha,
  type ServerReflectionResponse as ServerReflectionResponseAlpha,
} from '@slipway/proto/grpc/reflection/v1alpha/reflection'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createClient } from './client.ts'
import { Code } from './code.ts'
import { all, allHot, echoHandlers, serveEcho } from './echo.fixture.ts'

const run = promisify(execFile)
const ECHO = 'slipway.testing.v1.EchoService'

describe.each([
  ['v1', ServerReflection],
  ['v1alpha', ServerReflectionAlpha],
])('reflection %s', (_version, service) => {
  async function ask(...questions: object[]) {
    const { address } = await serveEcho()
    const client = createClient(service, { address })
    onTestFinished(() => client.close())
    async function* requests() {
      for (const messageRequest of questions) yield { host: 'here', messageRequest: messageRequest as never }
    }
    return await all<ServerReflectionResponse | ServerReflectionResponseAlpha>(client.serverReflectionInfo(requests()))
  }
  const filesOf = (answer: { messageResponse: { case: string | undefined; value?: unknown } } | undefined) => {
    const value = answer?.messageResponse.value as { fileDescriptorProto: Uint8Array[] }
    return value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name)
  }

  it('lists every service', async () => {
    const [answer] = await ask({ case: 'listServices', value: '' })
    expect(answer).toMatchObject({
      validHost: 'here',
      originalRequest: { host: 'here', messageRequest: { case: 'listServices' } },
      messageResponse: {
        value: {
          service: [
            { name: 'grpc.health.v1.Health' },
            { name: 'grpc.reflection.v1.ServerReflection' },
            { name: 'grpc.reflection.v1alpha.ServerReflection' },
            { name: ECHO },
          ],
        },
      },
    })
  })

  it.each([
    ['service', ECHO],
    ['method', `${ECHO}.Echo`],
    ['message', 'slipway.testing.v1.EchoRequest'],
    ['field', 'slipway.testing.v1.EchoRequest.text'],
  ])('finds the file of a %s with all that it imports', async (_kind, symbol) => {
    const [answer] = await ask({ case: 'fileContainingSymbol', value: symbol })
    const files = filesOf(answer)
    expect(files[0]).toBe('slipway/testing/v1/echo.proto')
    expect(files).toContain('buf/validate/validate.proto')
    expect(files).toContain('google/protobuf/descriptor.proto')
  })

  it('finds files by name, by nested and enum names, and by extension', async () => {
    const answers = await ask(
      { case: 'fileByFilename', value: 'grpc/health/v1/health.proto' },
      { case: 'fileContainingSymbol', value: 'grpc.health.v1.HealthCheckResponse.SERVING' },
      {
        case: 'fileContainingExtension',
        value: { containingType: 'google.protobuf.FieldOptions', extensionNumber: 1159 },
      },
    )
    expect(answers.map((answer) => filesOf(answer)[0])).toEqual([
      'grpc/health/v1/health.proto',
      'grpc/health/v1/health.proto',
      'buf/validate/validate.proto',
    ])
  })

  it('answers what it does not know with NOT_FOUND, and goes on', async () => {
    const answers = await ask(
      { case: 'fileContainingSymbol', value: 'no.such.Thing' },
      { case: 'allExtensionNumbersOfType', value: 'google.protobuf.FieldOptions' },
      { case: undefined },
    )
    expect(answers.map(({ messageResponse }) => messageResponse)).toMatchObject([
      { case: 'errorResponse', value: { errorCode: Code.NOT_FOUND } },
      { case: 'allExtensionNumbersResponse', value: { extensionNumber: [1159] } },
      { case: 'errorResponse', value: { errorCode: Code.INVALID_ARGUMENT } },
    ])
  })
})

describe('buf curl', () => {
  const curl = (...args: string[]) =>
    run(fileURLToPath(new URL('../../node_modules/.bin/buf', import.meta.url)), [
      'curl',
      '--http2-prior-knowledge',
      ...args,
    ])

  it.each([
    ['grpc-js', {}],
    ['the lean path', allHot],
  ])('lists and calls a server on %s by reflection', async (_transport, hot) => {
    const { address } = await serveEcho(echoHandlers, hot)
    const url = `http://${address}`
    const { stdout: services } = await curl('--protocol', 'grpc', '--list-methods', url)
    expect(services).toContain(`${ECHO}/Echo`)
    expect(services).toContain('grpc.health.v1.Health/Check')
    const { stdout } = await curl('--protocol', 'grpc', '-d', '{"text":"hello"}', `${url}/${ECHO}/Echo`)
    expect(JSON.parse(stdout)).toEqual({ text: 'hello' })
    const counted = await curl('--protocol', 'grpc', '-d', '{"count":2,"text":"x"}', `${url}/${ECHO}/Count`)
    expect(counted.stdout).toContain('"index": 1')
  })

  it('shows field-level errors', async () => {
    const { address } = await serveEcho()
    const failed = await curl('--protocol', 'grpc', '-d', '{"limited":11}', `http://${address}/${ECHO}/Echo`).catch(
      (error: { stderr: string }) => error.stderr,
    )
    expect(failed).toContain('invalid_argument')
    expect(failed).toContain('limited: must be greater than or equal to 0')
    expect(failed).toContain('google.rpc.BadRequest')
  })
})
