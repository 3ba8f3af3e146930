"""What callers see while the device is busy: bad requests, stored answers, short jobs, places, forecasts."""

import time

import grpc
import pytest
from prometheus_client import REGISTRY

from luthier.inference.v1 import inference_pb2 as pb

from .conftest import Served, long_job, refusal, request


def test_a_bad_request_is_refused_at_once_by_its_fields(served: Served) -> None:
    with long_job(served):
        began = time.monotonic()
        code, message = refusal(lambda: served.stub.Generate(request(prompt="", steps=0, guidance_scale=-1), timeout=8))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert all(field in message for field in ("prompt", "steps", "guidance_scale"))
    assert time.monotonic() - began < 4


def test_a_stored_answer_waits_for_nobody(served: Served) -> None:
    made = served.stub.Generate(request(seed=31))
    with long_job(served) as call:
        again = served.stub.Generate(request(seed=31), timeout=8)
        following = next(iter(call))

    assert (again.action.reused, again.audio) == (True, made.audio)
    assert following.progress.step < 1000


def test_a_short_job_is_done_long_before_the_long_one(served: Served) -> None:
    with long_job(served) as call:
        short = served.stub.Generate(request(seed=32), timeout=60)
        step = next(iter(call)).progress.step

    assert not short.action.reused
    assert step < 900


def test_metrics_tell_what_is_worked_on(served: Served) -> None:
    def at_work() -> tuple[float, float]:
        service = "luthier.inference.v1.InferenceService"
        gauges = ("luthier_work_in_flight", "luthier_work_waiting")
        in_flight, waiting = (REGISTRY.get_sample_value(name, {"service": service}) or 0.0 for name in gauges)
        return in_flight, waiting

    with long_job(served):
        busy = at_work()

    assert busy == (1, 0)


def test_when_every_place_is_taken_the_answer_is_unavailable_with_estimate_and_hint(crowded: Served) -> None:
    with long_job(crowded):
        waiting = crowded.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seed=2)))
        told = next(iter(waiting)).progress
        with pytest.raises(grpc.RpcError) as full:
            crowded.stub.Generate(request(seed=3))
        waiting.cancel()  # type: ignore[no-untyped-call]

    assert (told.step, told.ahead) == (0, 1)
    assert told.eta_s > 0
    assert full.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "the next is free in about" in (full.value.details() or "")
    assert "grpc-retry-pushback-ms" in {item.key for item in full.value.trailing_metadata()}


def test_a_deadline_that_cannot_be_met_is_refused_at_once(crowded: Served) -> None:
    """Alone it could be: another server may, so that it is UNAVAILABLE."""
    with long_job(crowded):
        began = time.monotonic()
        code, message = refusal(lambda: crowded.stub.Generate(request(seed=4), timeout=2.5))

    assert time.monotonic() - began < 2
    assert (code, "would be ready in about" in message) == (grpc.StatusCode.UNAVAILABLE, True)
