"""`StreamGenerate`: progress, then the response, then the audio; a cancel stops the denoising."""

import io
import threading
import time
from collections.abc import Callable, Sequence
from types import GeneratorType
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import metrics
from luthier_inference.service import events_of
from luthier_model.generation import Denoising, evaluate

from .conftest import Served, refusal, request

PROMPT = "calm piano in D minor at 90 BPM"


def stream(served: Served, **fields: Any) -> "grpc.CallIterator[pb.StreamGenerateResponse]":
    asked = {"prompt": PROMPT, "seconds_total": 1.0, "steps": 5, **fields}
    return served.stub.StreamGenerate(pb.StreamGenerateRequest(request=pb.GenerateRequest(**asked)), timeout=60)


def steps_done() -> float:
    done: float = metrics.STEPS.labels("tiny")._value.get()
    return done


def test_progress_comes_per_step_then_the_response_then_the_audio(served: Served) -> None:
    events = list(stream(served, seed=1))

    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["progress"] * 5 + ["response"] + ["audio_chunk"] * (len(kinds) - 6)
    assert [event.progress.step for event in events[:5]] == [1, 2, 3, 4, 5]
    assert all(event.progress.total == 5 for event in events[:5])
    sigmas = [event.progress.sigma for event in events[:5]]
    assert sigmas == sorted(sigmas, reverse=True)
    assert 0 < events[4].progress.eta_s < events[0].progress.eta_s  # after the last step it is decoded
    assert not any(event.progress.ahead for event in events[:5])


def test_the_chunks_are_the_audio_in_pieces_of_at_most_a_mebibyte(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier_inference.service.CHUNK_BYTES", 10_000)

    events = list(stream(served, seed=2))
    chunks = [event.audio_chunk for event in events if event.WhichOneof("event") == "audio_chunk"]
    (response,) = [event.response for event in events if event.WhichOneof("event") == "response"]

    assert b"".join(chunks) == served.store.blobs.read(response.audio)
    assert max(map(len, chunks)) == 10_000


def test_a_stream_and_a_unary_call_make_the_same(served: Served) -> None:
    fields: dict[str, Any] = {"prompt": PROMPT, "seconds_total": 1.0, "steps": 5, "seed": 3}
    streamed = next(e.response for e in stream(served, **fields) if e.WhichOneof("event") == "response")

    unary = served.stub.Generate(pb.GenerateRequest(**fields))

    assert (unary.action.reused, unary.audio) == (True, streamed.audio)


def settled(seconds: float = 5.0) -> float:
    """Steps done once they stop growing."""
    deadline, before = time.monotonic() + seconds, -1.0
    while time.monotonic() < deadline and (now := steps_done()) != before:
        before = now
        time.sleep(0.3)
    return before


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a tenth of a second, as a large model's are, so that they can be counted."""

    def slow(together: Sequence[Denoising]) -> None:
        time.sleep(0.1)
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", slow)


@pytest.mark.usefixtures("slow_steps")
def test_cancelling_stops_the_denoising_within_one_step(served: Served) -> None:
    call = stream(served, steps=1000, seed=4)
    for event in call:
        if event.progress.step == 3:
            break
    at_cancel = steps_done()
    call.cancel()  # type: ignore[no-untyped-call]

    assert settled() - at_cancel <= 1


def test_the_deadline_stops_the_denoising(served: Served) -> None:
    before = steps_done()
    with pytest.raises(grpc.RpcError) as late:
        served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1000, seed=5), timeout=0.5)

    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert settled() - before < 200
    again = served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=2, seed=5), timeout=30)
    assert not again.action.reused


def test_leaving_the_iterator_stops_the_work_and_waits_for_it() -> None:
    stop, ended = threading.Event(), threading.Event()

    def work(emit: Callable[[str], None]) -> None:
        emit("step")
        stop.wait(5)
        ended.set()

    running = events_of(work, stop)
    next(running)
    assert isinstance(running, GeneratorType)
    running.close()

    assert ended.is_set()


def test_what_the_work_raises_is_raised() -> None:
    def work(emit: Callable[[str], None]) -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        list(events_of(work, threading.Event()))


def test_the_audio_comes_as_it_is_decoded_before_the_response(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier_inference.service.CHUNK_BYTES", 40_000)
    asked = pb.StreamGenerateRequest(
        request=request(steps=2, seed=301, seconds_total=1.25, output_format=pb.OUTPUT_FORMAT_WAV_FLOAT), pieces=True
    )

    events = list(served.stub.StreamGenerate(asked))
    again = list(served.stub.StreamGenerate(asked))

    kinds = [event.WhichOneof("event") for event in events]
    pieces = [event.piece for event in events if event.HasField("piece")]
    sound = np.concatenate([np.frombuffer(piece.samples, "<f4").reshape(-1, piece.channels) for piece in pieces])
    whole, rate_hz = soundfile.read(io.BytesIO(b"".join(event.audio_chunk for event in events)), dtype="float32")
    assert kinds.index("response") > max(at for at, kind in enumerate(kinds) if kind == "piece")
    assert [piece.first_sample for piece in pieces] == [0, 5000, 10_000, 15_000]
    assert {piece.sample_rate_hz for piece in pieces} == {rate_hz}
    np.testing.assert_array_equal(sound, whole)
    assert not any(event.HasField("piece") for event in again), "it is there already"


def test_pieces_are_of_one_sound(served: Served) -> None:
    several = pb.StreamGenerateRequest(request=request(seeds=[1, 2]), pieces=True)

    code, details = refusal(lambda: list(served.stub.StreamGenerate(several)))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "pieces: must be false with seeds and best_of" in details
