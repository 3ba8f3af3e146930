"""Audio of any length into a file, with progress: stream_to_file.py [HOST:PORT]."""

import sys

from luthier.inference.v1 import inference_pb2 as pb
from luthier_client import Client

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7107"
request = pb.GenerateRequest(prompt="calm piano in D minor, 90 BPM", steps=8, seed=2)


def tell(progress: pb.GenerateProgress) -> None:
    print(f"step {progress.step} of {progress.total}, {progress.eta_s:.1f} s to go")


with Client(address) as client:
    response = client.to_file(request, "calm.flac", on_progress=tell)

print(f"calm.flac has the {response.audio.size_bytes} bytes of {response.audio.key}")
