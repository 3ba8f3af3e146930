"""A generation that is given up from another thread: cancel.py [HOST:PORT]."""

import sys
import threading

from luthier.inference.v1 import inference_pb2 as pb
from luthier_client import Cancel, Cancelled, Client

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7107"
request = pb.GenerateRequest(prompt="calm piano in D minor, 90 BPM", steps=1000)
begun, given_up = threading.Event(), Cancel()


def give_up() -> None:
    begun.wait()
    given_up.cancel()


threading.Thread(target=give_up).start()
with Client(address) as client:
    try:
        client.to_file(request, "calm.flac", on_progress=lambda _: begun.set(), cancel=given_up)
    except Cancelled:
        print("given up: the server ended the work within one step, and there is no file")
