"""Runs in a Pod: calls one RPC at a steady rate until SIGTERM or the end; the last line tells what came of every call.

    python load.py generate ADDRESS MODEL SECONDS RATE      (SECONDS 0: one call, with a deadline of 20 s)
    python load.py render ADDRESS - SECONDS RATE

`generate` is another team's service: only grpcio and the stubs. `render` is the pipeline: the kit's client.
"""

import json
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

WAYS = {
    "methodConfig": [
        {
            "name": [{}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.5s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "loadBalancingConfig": [{"round_robin": {}}],
}


def generate(address, model, deadline_s):
    """One Generate of a second each time it is called."""
    from luthier.inference.v1 import inference_pb2 as pb
    from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub

    channel = grpc.insecure_channel(f"dns:///{address}", options=[("grpc.service_config", json.dumps(WAYS))])
    stub, begun = InferenceServiceStub(channel), int(time.time())  # other seeds than before: each call is work

    def call(number):
        request = pb.GenerateRequest(prompt="piano", seconds_total=1, steps=2, seed=begun * 1000 + number, model=model)
        request.request_id = f"load-{time.time()}-{number}"
        return stub.Generate(request, timeout=deadline_s).model

    return call


def render(address, _, deadline_s):
    """Renders one short song with another seed each time, so that each call is work."""
    import io

    import mido

    from luthier.rendering.v1 import rendering_pb2 as pb
    from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
    from luthier_kit.artifacts import open_artifacts
    from luthier_kit.client import Client
    from luthier_kit.settings import StoreSettings, load

    store, client, begun = (
        open_artifacts(load(StoreSettings), prove=False),
        Client(address, RenderingServiceStub),
        int(time.time()),
    )
    midi, track, data = mido.MidiFile(), mido.MidiTrack(), io.BytesIO()
    midi.tracks.append(track)
    for step in range(16):
        track.append(mido.Message("note_on", note=48 + step, velocity=90))
        track.append(mido.Message("note_off", note=48 + step, time=240))
    midi.save(file=data)
    ref = store.put_bytes("midi", data.getvalue(), "mid", "audio/midi")

    def call(number):
        client.call(
            "RenderSong",
            pb.RenderSongRequest(midi=ref, seed=begun * 100_000 + number),
            timeout_s=deadline_s,
            patience_s=deadline_s,
        )

    return call


def main(kind, address, model, seconds, rate):
    """Calls until the time is over; prints {calls, ok, failed, slowest_s} as its last line."""
    call, stop = (
        {"generate": generate, "render": render}[kind](address, model, 120 if float(seconds) else 20),
        threading.Event(),
    )
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    failures, took, lock = Counter(), [], threading.Lock()

    def one(number):
        begun, failure = time.monotonic(), ""
        try:
            call(number)
        except Exception as error:
            failure = f"{getattr(error, 'code', lambda: '')()} {error}"[:300]
            print(
                f"{time.time():.1f} call {number} failed after {time.monotonic() - begun:.1f} s: {failure}", flush=True
            )
        with lock:
            took.append(time.monotonic() - begun)
            failures[failure] += bool(failure)

    one(0)
    if not failures.total():
        print("READY", flush=True)
    begun, number = time.monotonic(), 0
    with ThreadPoolExecutor(8) as pool:
        while not stop.is_set() and time.monotonic() - begun < float(seconds):
            number += 1
            pool.submit(one, number)
            stop.wait(max(0.0, begun + number / float(rate) - time.monotonic()))
    failed = sum(failures.values())
    print(
        json.dumps({"calls": len(took), "ok": len(took) - failed, "failed": failed, "slowest_s": round(max(took), 2)}),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
