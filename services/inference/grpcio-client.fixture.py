"""A client of the Open Inference Protocol on grpcio and nothing of this project but its proto files.

usage: grpcio-client.fixture.py ADDRESS DESCRIPTORS PART [DATATYPE]

DESCRIPTORS is a FileDescriptorSet. Runs the checks of one part and prints one line of JSON: how many checks ran, and what
was wrong in those that failed.
"""

import json
import struct
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
TIMEOUT = 20

# By datatype: the field of typed contents, the letter of one value for struct, and three values to send.
KINDS = {
    "BOOL": ("bool_contents", "?", [True, False, True]),
    "UINT8": ("uint_contents", "B", [0, 7, 255]),
    "UINT16": ("uint_contents", "H", [0, 7, 65535]),
    "UINT32": ("uint_contents", "I", [0, 7, 4294967295]),
    "UINT64": ("uint64_contents", "Q", [0, 7, 18446744073709551615]),
    "INT8": ("int_contents", "b", [-128, 7, 127]),
    "INT16": ("int_contents", "h", [-32768, 7, 32767]),
    "INT32": ("int_contents", "i", [-2147483648, 7, 2147483647]),
    "INT64": ("int64_contents", "q", [-9223372036854775808, 7, 9223372036854775807]),
    "FP16": (None, "e", [-0.5, 65504.0, 0.0]),
    "FP32": ("fp32_contents", "f", [-0.5, 3.0 * 2.0**120, 0.0]),
    "FP64": ("fp64_contents", "d", [-0.5, 1.0e308, 0.1]),
    "BYTES": ("bytes_contents", None, [b"", "zwölf".encode(), b"a" * 300]),
}

# By the name of the tensor in the model: shapes to send.
SHAPES = {
    "scalar": [[]],
    "vector": [[0], [1], [5]],
    "matrix": [[0, 3], [1, 3], [4, 3]],
    "dynamic": [[2, 3, 2], [1, 0, 4]],
    "fixed": [[2, 2]],
}


class Client:
    """Calls by method name, with messages made from the descriptors."""

    def __init__(self, address, descriptors):
        files = descriptor_pb2.FileDescriptorSet()
        with open(descriptors, "rb") as source:
            files.ParseFromString(source.read())
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(address, options=options)

    def message(self, full_name, /, **fields):
        return self.type_of(self.pool.FindMessageTypeByName(full_name))(**fields)

    def type_of(self, descriptor):
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(self.pool).GetPrototype(descriptor)

    def call(self, method, request=None, service=SERVICE, **options):
        description = self.pool.FindServiceByName(service).methods_by_name[method]
        if request is None:
            request = self.type_of(description.input_type)()
        elif isinstance(request, dict):
            request = self.type_of(description.input_type)(**request)
        stub = self.channel.unary_unary(
            "/%s/%s" % (service, method),
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=self.type_of(description.output_type).FromString,
        )
        return stub(request, timeout=TIMEOUT, **options)

    def stream(self, requests, service=SERVICE, method="ModelStreamInfer", **options):
        description = self.pool.FindServiceByName(service).methods_by_name[method]
        open_stream = self.channel.stream_stream(
            "/%s/%s" % (service, method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.type_of(description.output_type).FromString,
        )
        return open_stream(iter(requests), timeout=TIMEOUT, **options)

    def watch(self, name):
        service = "grpc.health.v1.Health"
        description = self.pool.FindServiceByName(service).methods_by_name["Watch"]
        open_watch = self.channel.unary_stream(
            "/%s/Watch" % service,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.type_of(description.output_type).FromString,
        )
        return open_watch(self.type_of(description.input_type)(service=name), timeout=TIMEOUT)

    def infer_request(self, model, inputs, raw=(), **fields):
        return self.message(
            "inference.ModelInferRequest", model_name=model, inputs=inputs, raw_input_contents=raw, **fields
        )

    def tensor(self, name, datatype, shape, values=None):
        fields = dict(name=name, datatype=datatype, shape=shape)
        if values is not None:
            contents = self.message("inference.InferTensorContents", **{KINDS[datatype][0]: values})
            fields["contents"] = contents
        return self.message("inference.ModelInferRequest.InferInputTensor", **fields)


class Checks:
    """Counts what was checked, and keeps what was not as it should be."""

    def __init__(self):
        self.checked = 0
        self.failures = []

    def equal(self, title, found, expected):
        self.checked += 1
        if found != expected:
            self.failures.append("%s: %r instead of %r" % (title, found, expected))

    def true(self, title, holds, found=None):
        self.checked += 1
        if not holds:
            self.failures.append("%s: %r" % (title, found))

    def refused(self, title, code, text, act):
        self.checked += 1
        try:
            self.failures.append("%s: answered with %r" % (title, act()))
        except grpc.RpcError as error:
            if error.code() is not code or text not in error.details():
                self.failures.append("%s: %s %s" % (title, error.code(), error.details()))


def elements(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def sample(datatype, count):
    values = KINDS[datatype][2]
    return [values[index % len(values)] for index in range(count)]


def pack(datatype, values):
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return struct.pack("<%d%s" % (len(values), KINDS[datatype][1]), *values)


def check_matrix(client, checks, datatype):
    """Every shape of a datatype, raw and typed, alone and beside the others."""
    model = datatype.lower()
    longest = max(len(shapes) for shapes in SHAPES.values())
    for turn in range(longest):
        chosen = [(name, shapes[turn % len(shapes)]) for name, shapes in SHAPES.items()]
        check_tensors(client, checks, model, datatype, chosen)
    for shape in SHAPES["matrix"]:
        check_tensors(client, checks, model + "-rows", datatype, [("matrix", shape)])


def check_tensors(client, checks, model, datatype, chosen):
    values = [sample(datatype, elements(shape)) for _, shape in chosen]
    packed = [pack(datatype, each) for each in values]
    forms = {
        "raw": client.infer_request(
            model, [client.tensor(name, datatype, shape) for name, shape in chosen], packed, id="é-1"
        )
    }
    if KINDS[datatype][0] is not None:
        tensors = [client.tensor(name, datatype, shape, each) for (name, shape), each in zip(chosen, values)]
        forms["typed"] = client.infer_request(model, tensors, id="é-1")
    for form, request in forms.items():
        title = "%s %s %s" % (model, form, [shape for _, shape in chosen])
        answer = client.call("ModelInfer", request)
        checks.equal(title + " id", answer.id, "é-1")
        checks.equal(title + " version", answer.model_version, "1")
        checks.equal(title + " raw", list(answer.raw_output_contents), packed)
        described = [(output.name, output.datatype, list(output.shape)) for output in answer.outputs]
        checks.equal(title + " outputs", described, [(name + "_out", datatype, shape) for name, shape in chosen])
        checks.true(title + " contents", not any(output.HasField("contents") for output in answer.outputs))
    if "typed" in forms:
        opt_in = client.message("inference.InferParameter", bool_param=False)
        outputs = [
            client.message(
                "inference.ModelInferRequest.InferRequestedOutputTensor",
                name=name + "_out",
                parameters={"binary_data_output": opt_in},
            )
            for name, _ in reversed(chosen)
        ]
        forms["raw"].outputs.extend(outputs)
        answer = client.call("ModelInfer", forms["raw"])
        found = [list(getattr(output.contents, KINDS[datatype][0])) for output in answer.outputs]
        checks.equal(model + " asked for typed, in reverse", found, list(reversed(values)))


def check_requests(client, checks):
    """What a request may be, and what it is told when it may not."""
    shape, raw = [2, 3], pack("FP32", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    tensor = client.tensor("matrix", "FP32", shape)
    typed = client.tensor("matrix", "FP32", shape, [1.0])

    def ask(inputs=None, contents=None, model="fp32-rows", **fields):
        return client.call("ModelInfer", client.infer_request(model, inputs or [tensor], contents or [raw], **fields))

    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    mixed = (
        "contents field must not be specified when using raw_input_contents for 'matrix' for model 'fp32-rows'"
    )
    checks.refused("raw and typed", invalid, mixed, lambda: ask([typed]))
    checks.refused("unknown model", missing, "Request for unknown model: 'nope' is not found", lambda: ask(model="nope"))
    checks.refused("unknown version", missing, "Request for unknown model", lambda: ask(model_version="9"))
    checks.refused("a long name", missing, "Request for unknown model", lambda: ask(model="x" * 100000))
    checks.refused("too many raws", invalid, "raw input contents", lambda: ask(contents=[raw, raw]))
    checks.refused("too few bytes", invalid, "input byte size mismatch", lambda: ask(contents=[raw[1:]]))
    shapes = {"rank": [6], "size": [3, 2], "negative": [-1, 3]}
    for title, wrong in shapes.items():
        other = client.tensor("matrix", "FP32", wrong)
        checks.refused(title, invalid, "unexpected shape for input 'matrix'", lambda: ask([other]))
    for datatype in ("BF16", "FP64", "STRING", ""):
        other = client.tensor("matrix", datatype, shape)
        checks.refused("datatype " + datatype, invalid, "data-type", lambda: ask([other]))
    narrow = client.tensor("matrix", "INT8", [1, 3], [1, 300, 1])
    empty = client.infer_request("int8-rows", [narrow])
    checks.refused("an INT8 of 300", invalid, "does not fit INT8", lambda: client.call("ModelInfer", empty))
    two = client.infer_request("bool-rows", [client.tensor("matrix", "BOOL", [1, 3])], [b"\0\1\2"])
    checks.refused("a BOOL of 2", invalid, "neither 0 nor 1", lambda: client.call("ModelInfer", two))
    half = client.infer_request("bytes-rows", [client.tensor("matrix", "BYTES", [1, 3])], [b"\3\0\0"])
    text = "incomplete string length indicator"
    checks.refused("half a length", invalid, text, lambda: client.call("ModelInfer", half))
    checks.refused("no message", invalid, "", lambda: client.call("ModelInfer", b"\xff\xff\xff"))
    checks.refused("an empty message", missing, "", lambda: client.call("ModelInfer", b""))

    tensor.contents.SetInParent()
    checks.equal("an empty contents beside raw", list(ask().raw_output_contents), [raw])
    parameters = {
        "priority": dict(uint64_param=1),
        "timeout": dict(int64_param=5000000),
        "sequence_id": dict(uint64_param=18446744073709551615),
        "sequence_start": dict(bool_param=True),
        "sequence_end": dict(bool_param=True),
        "headers": dict(string_param="a: b"),
        "triton_enable_empty_final_response": dict(bool_param=True),
        "mine": dict(double_param=0.5),
    }
    accepted = {key: client.message("inference.InferParameter", **value) for key, value in parameters.items()}
    checks.equal("parameters", list(ask(parameters=accepted).raw_output_contents), [raw])
    reserved = {"triton_other": client.message("inference.InferParameter", bool_param=True)}
    checks.refused("a reserved parameter", invalid, "triton_other", lambda: ask(parameters=reserved))
    compressed = client.call(
        "ModelInfer", client.infer_request("fp32-rows", [tensor], [raw]), compression=grpc.Compression.Gzip
    )
    checks.equal("a compressed request", list(compressed.raw_output_contents), [raw])
    long = pack("BYTES", [b"a" * 2000000] * 3)
    large = client.infer_request("bytes-rows", [client.tensor("matrix", "BYTES", [1, 3])], [long])
    checks.equal("six megabytes", list(client.call("ModelInfer", large).raw_output_contents), [long])


def check_stream(client, checks):
    """Answers over one stream, faults included."""
    raw = pack("FP32", [1.0, 2.0, 3.0])

    def one(name, contents=raw):
        tensor = client.tensor("matrix", "FP32", [1, 3])
        return client.infer_request("fp32-rows", [tensor], [contents], id=name)

    answers = list(client.stream([one("a"), one("ungültig", b"?"), one("b")]))
    by_id = {answer.infer_response.id: answer for answer in answers}
    checks.equal("the ids of a stream", sorted(by_id), ["a", "b", "ungültig"])
    for name in ("a", "b"):
        checks.equal("answer " + name, list(by_id[name].infer_response.raw_output_contents), [raw])
        checks.equal("no error of " + name, by_id[name].error_message, "")
    text = by_id["ungültig"].error_message
    checks.true("the fault of one message", "input byte size mismatch" in text, text)
    ending = client.stream([one("a", b"?")], metadata=[("triton_grpc_error", "true")])
    checks.refused("a stream that ends on a fault", grpc.StatusCode.INVALID_ARGUMENT, "mismatch", lambda: list(ending))
    checks.equal("an empty stream", list(client.stream([])), [])


def check_descriptions(client, checks):
    """What is said about the server and its models, and their health."""
    checks.true("live", client.call("ServerLive").live)
    checks.true("ready", client.call("ServerReady").ready)
    checks.true("a model is ready", client.call("ModelReady", dict(name="fp32")).ready)
    checks.true("an unknown model is not", not client.call("ModelReady", dict(name="nope")).ready)
    server = client.call("ServerMetadata")
    checks.equal("the server's name", server.name, "slipway")
    checks.true("its extensions", "statistics" in server.extensions, list(server.extensions))
    for model in ("fp32", "fp32-rows", "bytes", "bytes-rows"):
        metadata = client.call("ModelMetadata", dict(name=model))
        config = client.call("ModelConfig", dict(name=model)).config
        rows = [-1] if config.max_batch_size > 0 else []
        checks.equal(model + " takes rows", rows != [], model.endswith("-rows"))
        of_config = [(tensor.name, rows + list(tensor.dims)) for tensor in config.input]
        checks.equal(model + " inputs", of_config, [(tensor.name, list(tensor.shape)) for tensor in metadata.inputs])
        expected = "TYPE_STRING" if model.startswith("bytes") else "TYPE_FP32"
        names = data_types_of(config)
        checks.equal(model + " data types", names, {expected})
    before = statistics_of(client, "fp32-rows")
    tensor = client.tensor("matrix", "FP32", [4, 3])
    client.call("ModelInfer", client.infer_request("fp32-rows", [tensor], [bytes(48)]))
    after = statistics_of(client, "fp32-rows")
    checks.equal("inferences", after.inference_count - before.inference_count, 4)
    checks.equal("executions", after.execution_count - before.execution_count, 1)
    successes = after.inference_stats.success.count - before.inference_stats.success.count
    checks.equal("successes", successes, 1)
    index = client.call("RepositoryIndex", dict(ready=True)).models
    checks.true("the index", ("fp32", "1", "READY") in [(one.name, one.version, one.state) for one in index])
    health = "grpc.health.v1.Health"
    for name in ("", SERVICE, "fp32", "fp32/1"):
        checks.equal("health of " + name, client.call("Check", dict(service=name), service=health).status, 1)
    unknown = grpc.StatusCode.NOT_FOUND
    checks.refused("health of nobody", unknown, "", lambda: client.call("Check", dict(service="nope"), service=health))
    checks.equal("watch", next(client.watch("fp32")).status, 1)
    checks.equal("watch nobody", next(client.watch("nope")).status, 3)


def data_types_of(config):
    names = config.input[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    return {names[tensor.data_type].name for tensor in config.input}


def statistics_of(client, model):
    return client.call("ModelStatistics", dict(name=model)).model_stats[0]


def main(address, descriptors, part, *rest):
    parts = {
        "matrix": check_matrix,
        "requests": check_requests,
        "stream": check_stream,
        "descriptions": check_descriptions,
    }
    checks = Checks()
    parts[part](Client(address, descriptors), checks, *rest)
    print(json.dumps(dict(checked=checks.checked, failures=checks.failures)))


main(*sys.argv[1:])
