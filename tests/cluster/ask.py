"""Runs in a Pod of another team, with only grpcio and the stubs: COUNT Generates at once, each with a new seed.

    python ask.py ADDRESS MODEL COUNT      optional credentials: /credentials/ca.crt, token, tls.crt and tls.key

The last line is a JSON list of [status, details], one for each call.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub

CREDENTIALS = Path("/credentials")


def channel(address: str) -> grpc.Channel:
    """Over TLS where there is an authority to trust."""
    authority = CREDENTIALS / "ca.crt"
    if not authority.exists():
        return grpc.insecure_channel(address)
    own = [CREDENTIALS / name for name in ("tls.key", "tls.crt")]
    key, chain = [path.read_bytes() if path.exists() else None for path in own]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.read_bytes(), key, chain))


def main(address: str, model: str, count: str) -> None:
    """Calls and prints the answers."""
    token = CREDENTIALS / "token"
    metadata = (("authorization", f"Bearer {token.read_text()}"),) if token.exists() else ()
    stub, begun = InferenceServiceStub(channel(address)), int(time.time())

    def call(number: int) -> tuple[str, str]:
        request = pb.GenerateRequest(prompt="piano", seconds_total=2, steps=40, seed=begun * 100 + number, model=model)
        try:
            stub.Generate(request, timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    with ThreadPoolExecutor(int(count)) as pool:
        print(json.dumps(list(pool.map(call, range(int(count))))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
