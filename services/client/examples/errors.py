"""What a refusal says: errors.py [HOST:PORT]."""

import sys

from luthier.inference.v1 import inference_pb2 as pb
from luthier_client import Client, InvalidRequest, LuthierError, NotFound, ResourceExhausted, Retry

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7107"
requests = [
    pb.GenerateRequest(prompt="", steps=0),
    pb.GenerateRequest(prompt="calm piano", model="nobody"),
    pb.GenerateRequest(prompt="calm piano", seconds_total=3, steps=8, seed=3),
]

with Client(address, retry=Retry(budget_s=60)) as client:
    for request in requests:
        try:
            print("made", client.generate(request).audio.key)
        except InvalidRequest as error:
            for violation in error.violations:
                print(f"{violation.field} {violation.description}")
        except NotFound as error:
            print(error.reason, error)
        except ResourceExhausted as error:
            hours = (error.retry_after_s or 0) / 3600
            print(f"{error.reason}: {error.metadata.get('quota')} again in {hours:.1f} hours")
        except LuthierError as error:
            print(f"{error.code.name} {error.reason}, request {error.request_id}: {error}")
