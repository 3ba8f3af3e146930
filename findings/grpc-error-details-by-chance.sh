#!/usr/bin/env bash
# A server that lists what is wrong with a batch (BadRequest, one violation a song) sends it in trailing metadata. From 8 to 16 kB, about
# 160 to 300 violations, the client refuses the trailer by lot: of equal calls some end with INVALID_ARGUMENT and the details,
# the others with RESOURCE_EXHAUSTED and none; above 16 kB all do. Most expect one answer to one call, and a limit that is a limit.
# Hurt: validation of data sets over gRPC: the cause is lost just when much is wrong, tests of it are flaky, and a caller that takes
# RESOURCE_EXHAUSTED for a full queue sends the bad batch again.
# Printed (the counts of the middle line vary):
#   grpcio 1.85.3, 100 violations, 60 calls: {'INVALID_ARGUMENT': 60}
#   grpcio 1.85.3, 220 violations, 60 calls: {'INVALID_ARGUMENT': 33, 'RESOURCE_EXHAUSTED': 27}
#   grpcio 1.85.3, 400 violations, 60 calls: {'RESOURCE_EXHAUSTED': 60}
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get grpcio==1.85.3 grpcio-status==1.85.3 googleapis-common-protos==1.76.0 protobuf==7.36.2
cd "$t" && v/bin/python -W ignore - <<'PY'
import collections, grpc
from concurrent import futures
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
class Validator(grpc.GenericRpcHandler):
    def service(self, call):
        violations = int(call.method.rsplit("/", 1)[1])
        def refuse(request, context):
            details = error_details_pb2.BadRequest()
            for row in range(violations):
                details.field_violations.add(field=f"songs[{row}].tempo", description="not a number between 20 and 400")
            packed = any_pb2.Any()
            packed.Pack(details)
            status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad rows", details=[packed])
            context.abort_with_status(rpc_status.to_status(status))
        return grpc.unary_unary_rpc_method_handler(refuse)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Validator(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
found = {}
for violations in (100, 220, 400):
    answers = collections.Counter()
    for _ in range(60):
        try:
            channel.unary_unary(f"/songs.Validator/{violations}")(b"")
        except grpc.RpcError as error:
            answers[error.code().name] += 1
    found[violations] = dict(sorted(answers.items()))
    print(f"grpcio {grpc.__version__}, {violations} violations, 60 calls: {found[violations]}", flush=True)
channel.close()
server.stop(None)
assert found[100] == {"INVALID_ARGUMENT": 60} and found[400] == {"RESOURCE_EXHAUSTED": 60}
assert set(found[220]) == {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
PY
