"""The protocol over HTTP as Python's own library speaks it: one JSON object on stdout that says what came back."""

import gzip
import json
import struct
import sys
import urllib.error
import urllib.request

base = sys.argv[1]


def call(path, body=None, **headers):
    request = urllib.request.Request(base + path, data=body)
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


KINDS = {
    "BOOL": ("?", [True, False, True]),
    "INT8": ("b", [-128, 0, 127]),
    "INT16": ("h", [-32768, 0, 32767]),
    "INT32": ("i", [-(2**31), 0, 2**31 - 1]),
    "INT64": ("q", [-(2**63), 2**53 + 1, 2**63 - 1]),
    "UINT8": ("B", [0, 1, 255]),
    "UINT16": ("H", [0, 1, 65535]),
    "UINT32": ("I", [0, 1, 2**32 - 1]),
    "UINT64": ("Q", [0, 2**53 + 1, 2**64 - 1]),
    "FP32": ("f", [0.5, -1.25, 3.4028234663852886e38]),
    "FP64": ("d", [0.1, -5e-324, 1.7976931348623157e308]),
}

wrong = []
checked = 0
for datatype, (code, values) in KINDS.items():
    for rows in ([], values[:1], values):
        raw = struct.pack("<%d%s" % (len(rows), code), *rows)
        tensor = {"name": "input", "datatype": datatype, "shape": [len(rows)]}
        path = "/v2/models/%s/infer" % datatype.lower()
        text = json.dumps({"inputs": [dict(tensor, data=rows)]}).encode()
        for body, headers in ((text, {}), (gzip.compress(text), {"Content_Encoding": "gzip"})):
            status, _, answer = call(path, body, **headers)
            got = json.loads(answer)["outputs"][0] if status == 200 else answer.decode()
            checked += 1
            if status != 200 or got["data"] != rows or got["shape"] != [len(rows)]:
                wrong.append([datatype, rows, status, got])
        head = json.dumps(
            {
                "inputs": [dict(tensor, parameters={"binary_data_size": len(raw)})],
                "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
            }
        ).encode()
        status, headers, answer = call(path, head + raw, Inference_Header_Content_Length=str(len(head)))
        length = int(lower(headers).get("inference-header-content-length", len(answer)))
        checked += 1
        if status != 200 or answer[length:] != raw:
            wrong.append([datatype, rows, status, answer.decode("latin1")])

unknown = call("/v2/models/nope/infer", b"{}")
missing = call("/v2/models/fp32/infer", json.dumps({"inputs": []}).encode())
print(
    json.dumps(
        {
            "checked": checked,
            "wrong": wrong,
            "live": json.loads(call("/v2/health/live")[2]),
            "metadata": json.loads(call("/v2/models/fp32")[2]),
            "statuses": [unknown[0], missing[0], call("/v2/models/fp32/infer")[0], call("/nowhere")[0]],
            "error": json.loads(missing[2])["error"],
        }
    )
)
