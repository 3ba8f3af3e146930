"""Runs in a Pod: calls one RPC at a steady rate until SIGTERM or the end; the last line counts the results.

    python load.py generate ADDRESS MODEL SECONDS RATE      (SECONDS 0: one call, with a deadline of 20 s)
    python load.py mixed ADDRESS MODEL SECONDS RATE
    python load.py render ADDRESS - SECONDS RATE

`generate` and `mixed` call as another team's service does, with only grpcio and the stubs; `mixed` asks for few and
many steps, short and long audio in several formats, and a quarter of its callers leave their stream at some step.
`render` calls as the pipeline does, with Luthier's own client.
"""

import json
import random
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

Call = Callable[[int], None]
# What another team's client should set: retries of UNAVAILABLE, and calls spread over all Pods.
SERVICE_CONFIG = {
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


def channel_to(address: str) -> grpc.Channel:
    """A channel to all Pods of a headless Service."""
    return grpc.insecure_channel(f"dns:///{address}", options=[("grpc.service_config", json.dumps(SERVICE_CONFIG))])


def generate(address: str, model: str, deadline_s: float) -> Call:
    """A function that generates one second of audio."""
    from luthier.inference.v1 import inference_pb2 as pb
    from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub

    stub, begun = InferenceServiceStub(channel_to(address)), int(time.time())  # new seeds, so that no answer is reused

    def call(number: int) -> None:
        request = pb.GenerateRequest(prompt="piano", seconds_total=1, steps=2, seed=begun * 1000 + number, model=model)
        request.request_id = f"load-{time.time()}-{number}"
        stub.Generate(request, timeout=deadline_s)

    return call


def mixed(address: str, model: str, deadline_s: float) -> Call:
    """A function that generates audio of some length in some steps, or leaves before it is there."""
    from luthier.inference.v1 import inference_pb2 as pb
    from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub

    stub, begun = InferenceServiceStub(channel_to(address)), int(time.time())

    def call(number: int) -> None:
        draw = random.Random(begun * 1000 + number)
        request = pb.GenerateRequest(
            prompt="piano",
            seconds_total=draw.uniform(0.5, 4),
            steps=draw.choice((2, 8, 8, 30)),
            guidance_scale=draw.choice((1.0, 4.0)),
            seed=begun * 1000 + number,
            model=model,
            output_format=draw.choice((pb.OUTPUT_FORMAT_FLAC, pb.OUTPUT_FORMAT_WAV, pb.OUTPUT_FORMAT_FLAC_24)),
            request_id=f"load-{begun}-{number}",
        )
        leaves_at = draw.randrange(1, request.steps + 1) if number % 4 == 3 else 0
        if not leaves_at:
            assert stub.Generate(request, timeout=deadline_s).audio.sha256
            return
        stream = stub.StreamGenerate(pb.StreamGenerateRequest(request=request), timeout=deadline_s)
        for received, _ in enumerate(stream, 1):
            if received >= leaves_at:
                stream.cancel()  # type: ignore[no-untyped-call]
                break

    return call


def render(address: str, _: str, deadline_s: float) -> Call:
    """A function that renders one short song, each time with another seed, so that no answer is reused."""
    from luthier.rendering.v1 import rendering_pb2 as pb
    from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
    from luthier_kit.rpc import Channel, load
    from luthier_kit.store import StoreSettings, open_store

    store, begun = open_store(load(StoreSettings), prove=False), int(time.time())
    stub = RenderingServiceStub(Channel(address, retry_budget_s=deadline_s))
    # MIDI format 0: 16 eighth notes of 240 ticks (variable-length quantity 81 70), 480 ticks to a quarter.
    notes = b"".join(bytes([0, 0x90, note, 90, 0x81, 0x70, 0x80, note, 64]) for note in range(48, 64))
    track = notes + bytes([0, 0xFF, 0x2F, 0])
    midi = struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track
    ref = store.blobs.put_bytes("midi", midi, "mid", "audio/midi")

    def call(number: int) -> None:
        stub.RenderSong(pb.RenderSongRequest(midi=ref, seed=begun * 100_000 + number), timeout=deadline_s)

    return call


def main(kind: str, address: str, model: str, seconds: str, rate: str) -> None:
    """Calls until SECONDS are over. Prints READY after a first success, {calls, ok, failed, slowest_s} at the end."""
    make = {"generate": generate, "mixed": mixed, "render": render}[kind]
    call, stop = make(address, model, 120 if float(seconds) else 20), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    took: list[float] = []  # seconds of each call
    failed, lock = 0, threading.Lock()

    def one(number: int) -> None:
        nonlocal failed
        begun, failure = time.monotonic(), ""
        try:
            call(number)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"[:300]
            print(
                f"{time.time():.1f} call {number} failed after {time.monotonic() - begun:.1f} s: {failure}", flush=True
            )
        with lock:
            took.append(time.monotonic() - begun)
            failed += bool(failure)

    one(0)
    if not failed:
        print("READY", flush=True)
    begun, number = time.monotonic(), 0
    with ThreadPoolExecutor(8) as pool:
        while not stop.is_set() and time.monotonic() - begun < float(seconds):
            number += 1
            pool.submit(one, number)
            stop.wait(max(0.0, begun + number / float(rate) - time.monotonic()))
    print(
        json.dumps({"calls": len(took), "ok": len(took) - failed, "failed": failed, "slowest_s": round(max(took), 2)}),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
