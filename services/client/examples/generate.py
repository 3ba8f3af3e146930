"""Ten seconds of audio in one call: generate.py [HOST:PORT]."""

import sys
from pathlib import Path

from luthier.inference.v1 import inference_pb2 as pb
from luthier_client import Client

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7107"
request = pb.GenerateRequest(prompt="calm piano in D minor, 90 BPM", seconds_total=3, steps=8, seed=1)
request.inline_audio = True  # up to 3 MiB; to_file brings audio of any length

with Client(address) as client:
    response = client.generate(request)

Path("calm.flac").write_bytes(response.inline_audio)
print(f"{response.model}, seed {response.seed}: {response.samples / response.sample_rate_hz:g} s in calm.flac")
