"""Runs in a Pod: calls one RPC at a steady rate until SIGTERM or the end; the last line counts the results.

    python load.py generate ADDRESS MODEL SECONDS RATE      (SECONDS 0: one call, with a deadline of 20 s)
    python load.py mixed ADDRESS MODEL SECONDS RATE
    python load.py render ADDRESS - SECONDS RATE
    python load.py review ADDRESS COLLECTION SECONDS RATE

`generate` and `mixed` call as another team's service does, with only grpcio and the stubs; `mixed` asks for few and
many steps, short and long audio in several formats, and a quarter of its callers leave their stream at some step.
`render` and `review` call as the pipeline does, with Luthier's own client; at the end they look for what was answered
OK and is no longer there, which is counted as lost.
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
from typing import Any

import grpc

Call = Callable[[int], None]
Kind = tuple[Call, Callable[[], int]]
"""A call by its number, and a count of what was answered and is lost."""
PATIENCE_S = 300  # of Luthier's own clients, as a run has it
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


def nothing_lost() -> int:
    """Of calls whose answers this Pod cannot look for."""
    return 0


def generate(address: str, model: str, deadline_s: float) -> Kind:
    """Generates one second of audio."""
    from luthier.inference.v1 import inference_pb2 as pb
    from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub

    stub, begun = InferenceServiceStub(channel_to(address)), int(time.time())  # new seeds, so that no answer is reused

    def call(number: int) -> None:
        request = pb.GenerateRequest(prompt="piano", seconds_total=1, steps=2, seed=begun * 1000 + number, model=model)
        request.request_id = f"load-{time.time()}-{number}"
        stub.Generate(request, timeout=deadline_s)

    return call, nothing_lost


def mixed(address: str, model: str, deadline_s: float) -> Kind:
    """Generates audio of some length in some steps, or leaves before it is there."""
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

    return call, nothing_lost


def render(address: str, _: str, __: float) -> Kind:
    """Renders one short song, each time with another seed, so that no answer is reused."""
    from luthier.rendering.v1 import rendering_pb2 as pb
    from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
    from luthier_kit.rpc import Channel, load
    from luthier_kit.store import StoreSettings, open_store

    store, begun = open_store(load(StoreSettings), prove=False), int(time.time())
    stub = RenderingServiceStub(Channel(address, retry_budget_s=PATIENCE_S))
    # MIDI format 0: 16 eighth notes of 240 ticks (variable-length quantity 81 70), 480 ticks to a quarter.
    notes = b"".join(bytes([0, 0x90, note, 90, 0x81, 0x70, 0x80, note, 64]) for note in range(48, 64))
    track = notes + bytes([0, 0xFF, 0x2F, 0])
    midi = struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track
    ref = store.blobs.put_bytes("midi", midi, "mid", "audio/midi")

    mixes: list[Any] = []

    def call(number: int) -> None:
        request = pb.RenderSongRequest(midi=ref, seed=begun * 100_000 + number)
        mixes.append(stub.RenderSong(request, timeout=PATIENCE_S).mix)

    return call, lambda: sum(not store.blobs.exists(mix) for mix in mixes)


def review(address: str, collection: str, _: float) -> Kind:
    """Remarks on clips in turn, as a reviewer does; the last remark of each that was answered must be there."""
    from luthier.curation.v1 import curation_pb2 as pb
    from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
    from luthier_kit.rpc import Channel

    stub = CurationServiceStub(Channel(address, retry_budget_s=PATIENCE_S))
    answered: dict[str, int] = {}

    def clips() -> dict[str, str]:
        request = pb.ListClipsRequest(filter=pb.ClipFilter(collection=collection), page_size=20)
        return {clip.clip_id: clip.remark for clip in stub.ListClips(request, timeout=PATIENCE_S).clips}

    ids = sorted(clips())
    turns = {clip: threading.Lock() for clip in ids}  # else an older remark that is sent again may come last

    def call(number: int) -> None:
        clip = ids[number % len(ids)]
        request = pb.ReviewClipsRequest(verdict=pb.VERDICT_ACCEPTED, reviewer="load", remark=f"{number}")
        request.clips.add(clip_id=clip)
        with turns[clip]:
            stub.ReviewClips(request, timeout=PATIENCE_S)
            answered[clip] = number

    def lost() -> int:
        now = clips()
        return sum(now[clip] != f"{number}" for clip, number in answered.items())

    return call, lost


def main(kind: str, address: str, model: str, seconds: str, rate: str) -> None:
    """Calls until SECONDS are over. Prints READY after a first success, the counts at the end."""
    make = {"generate": generate, "mixed": mixed, "render": render, "review": review}[kind]
    (call, lost), stop = make(address, model, 120 if float(seconds) else 20), threading.Event()
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
    counts = {"calls": len(took), "ok": len(took) - failed, "failed": failed, "lost": lost()}
    print(json.dumps({**counts, "slowest_s": round(max(took), 2)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
