import { type DescExtension, type DescFile, type DescMessage, type DescService, toBinary } from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt'
import { file_google_rpc_error_details } from '@slipway/proto/google/rpc/error_details'
import { ServerReflection, type ServerReflectionRequest } from '@slipway/proto/grpc/reflection/v1/reflection'
import {
  ServerReflection as ServerReflectionAlpha,
  type ServerReflectionRequest as ServerReflectionRequestAlpha,
} from '@slipway/proto/grpc/reflection/v1alpha/reflection'
import { Code } from './code.ts'
import { type Implementation, implement } from './implementation.ts'

/** A question of either version; the two differ in their package only. */
type Question = ServerReflectionRequest | ServerReflectionRequestAlpha

type Answer =
  | { case: 'fileDescriptorResponse'; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: 'allExtensionNumbersResponse'; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: 'listServicesResponse'; value: { service: { name: string }[] } }
  | { case: 'errorResponse'; value: { errorCode: number; errorMessage: string } }

/** The reflection services v1 and v1alpha for these services and themselves. */
export function reflection(services: readonly DescService[]): readonly Implementation[] {
  const index = new Index([...services, ServerReflection, ServerReflectionAlpha])
  const answers = async function* <Q extends Question>(questions: AsyncIterable<Q>) {
    for await (const question of questions) {
      yield { validHost: question.host, originalRequest: question, messageResponse: index.answer(question) }
    }
  }
  return [
    implement(ServerReflection, { serverReflectionInfo: answers<ServerReflectionRequest> }),
    implement(ServerReflectionAlpha, { serverReflectionInfo: answers<ServerReflectionRequestAlpha> }),
  ]
}

/** Where every declared name is. */
class Index {
  readonly #services: readonly string[]
  readonly #files = new Map<string, DescFile>()
  readonly #symbols = new Map<string, DescFile>()
  readonly #extensions = new Map<string, Map<number, DescFile>>()

  constructor(services: readonly DescService[]) {
    this.#services = [...new Set(services.map(({ typeName }) => typeName))].sort()
    for (const { file } of services) this.#addFile(file)
    // No method names these, but every failure carries them: tools that find them can show field-level errors.
    this.#addFile(file_google_rpc_error_details)
  }

  answer({ messageRequest: question }: Question): Answer {
    switch (question.case) {
      case 'listServices':
        return { case: 'listServicesResponse', value: { service: this.#services.map((name) => ({ name })) } }
      case 'fileByFilename':
        return this.#file(this.#files.get(question.value), question.value)
      case 'fileContainingSymbol':
        return this.#file(this.#symbols.get(question.value), question.value)
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = question.value
        const file = this.#extensions.get(containingType)?.get(extensionNumber)
        return this.#file(file, `extension ${extensionNumber} of ${containingType}`)
      }
      case 'allExtensionNumbersOfType':
        return this.#extensionNumbers(question.value)
      default:
        return refusal(Code.INVALID_ARGUMENT, 'the request asks nothing that is known')
    }
  }

  #file(file: DescFile | undefined, asked: string): Answer {
    if (file === undefined) return refusal(Code.NOT_FOUND, `${asked} is not known`)
    const files = new Set<DescFile>()
    collect(file, files)
    const fileDescriptorProto = [...files].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto))
    return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } }
  }

  #extensionNumbers(type: string): Answer {
    if (!this.#symbols.has(type)) return refusal(Code.NOT_FOUND, `${type} is not known`)
    const extensionNumber = [...(this.#extensions.get(type)?.keys() ?? [])]
    return { case: 'allExtensionNumbersResponse', value: { baseTypeName: type, extensionNumber } }
  }

  #addFile(file: DescFile): void {
    if (this.#files.has(file.proto.name)) return
    this.#files.set(file.proto.name, file)
    for (const dependency of file.dependencies) this.#addFile(dependency)
    for (const message of file.messages) this.#addMessage(message, file)
    for (const { typeName, values } of file.enums) this.#addEnum(typeName, values, file)
    for (const extension of file.extensions) this.#addExtension(extension, file)
    for (const { typeName, methods } of file.services) {
      this.#symbols.set(typeName, file)
      for (const { name } of methods) this.#symbols.set(`${typeName}.${name}`, file)
    }
  }

  #addMessage(message: DescMessage, file: DescFile): void {
    this.#symbols.set(message.typeName, file)
    for (const { name } of [...message.fields, ...message.oneofs])
      this.#symbols.set(`${message.typeName}.${name}`, file)
    for (const nested of message.nestedMessages) this.#addMessage(nested, file)
    for (const { typeName, values } of message.nestedEnums) this.#addEnum(typeName, values, file)
    for (const extension of message.nestedExtensions) this.#addExtension(extension, file)
  }

  /** The values of an enum are named beside it, not inside it. */
  #addEnum(typeName: string, values: readonly { readonly name: string }[], file: DescFile): void {
    this.#symbols.set(typeName, file)
    const scope = typeName.slice(0, typeName.lastIndexOf('.') + 1)
    for (const { name } of values) this.#symbols.set(scope + name, file)
  }

  #addExtension(extension: DescExtension, file: DescFile): void {
    this.#symbols.set(extension.typeName, file)
    const extendee = extension.extendee.typeName
    const numbers = this.#extensions.get(extendee) ?? new Map<number, DescFile>()
    this.#extensions.set(extendee, numbers.set(extension.number, file))
  }
}

function collect(file: DescFile, into: Set<DescFile>): void {
  if (into.has(file)) return
  into.add(file)
  for (const dependency of file.dependencies) collect(dependency, into)
}

const refusal = (errorCode: number, errorMessage: string): Answer => ({
  case: 'errorResponse',
  value: { errorCode, errorMessage },
})
