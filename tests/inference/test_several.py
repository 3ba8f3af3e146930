"""Several seeds in one request: each is made as if it were asked for alone, all at once."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import request as requests
from luthier_inference.generator import GenerationResult, Generator, OnProgress
from luthier_inference.request import GenerationJob
from luthier_inference.served_models import ServedModels
from luthier_inference.several import AddedUp, all_at_once
from luthier_kit.rpc import Busy, Cancelled, FailedPrecondition, Unavailable
from luthier_model.generation import Denoising, evaluate

from .conftest import Served, long_job, refusal, request
from .test_stream import settled, steps_done


@pytest.mark.parametrize(
    ("fields", "bound"),
    [
        ({"seeds": range(9)}, "seeds: must have 0 to 8 items, got 9"),
        ({"seeds": [1, 2, 1]}, "seeds: must be distinct, got 1 twice"),
        ({"seeds": [1, 2], "seed": 3}, "seeds: must be empty with seed"),
        ({"seeds": [0], "seed": 0}, "seeds: must be empty with seed"),
    ],
)
@pytest.mark.parametrize("model", ["", "nobody"])
def test_seeds_beyond_a_bound_are_refused_by_name(
    served: Served, fields: dict[str, Any], bound: str, model: str
) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(model=model, **fields)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert bound in details


def test_each_seed_is_found_as_one_that_is_asked_for_alone(served: Served) -> None:
    together = served.stub.Generate(request(seeds=[51, 52, 2**63]))
    alone = [served.stub.Generate(request(seed=seed)) for seed in (51, 52, 2**63)]

    assert [together.seed, *(other.seed for other in together.others)] == [51, 52, 2**63]
    assert [together.audio, *(other.audio for other in together.others)] == [one.audio for one in alone]
    assert [one.action.reused for one in alone] == [True] * 3
    assert [one.action.action_key for one in together.others] == [one.action.action_key for one in alone[1:]]
    assert len({one.audio.sha256 for one in alone}) == 3
    assert all(other.samples == together.samples for other in together.others)


def test_a_seed_that_was_made_alone_is_not_made_again(served: Served) -> None:
    alone = served.stub.Generate(request(seed=54))
    together = served.stub.Generate(request(seeds=[53, 54]))

    assert (together.action.reused, together.others[0].action.reused) == (False, True)
    assert together.others[0].audio == alone.audio


def test_seeds_share_the_passes_of_the_network(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []

    def counted(together: Sequence[Denoising]) -> None:
        shared.append(len(together))
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", counted)
    served.stub.Generate(request(seeds=[61, 62, 63], steps=40))

    assert max(shared) == 3
    assert sum(shared) == 3 * 40


def test_progress_adds_up_the_steps_of_all(served: Served) -> None:
    events = list(served.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seeds=[71, 72], steps=5))))
    progress = [event.progress for event in events if event.HasField("progress")]
    steps = [one.step for one in progress if one.step]  # one that waits its turn is told its place, no further step

    assert steps == sorted(steps)
    assert set(steps) == set(range(1, 11))
    assert {one.total for one in progress} == {10}
    assert {one.seed for one in progress} == {71, 72}
    (response,) = (event.response for event in events if event.HasField("response"))
    assert b"".join(event.audio_chunk for event in events) == served.store.blobs.read(response.audio)


def test_one_piece_of_audio_says_no_seed_in_its_progress(served: Served) -> None:
    events = served.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seeds=[73])))

    assert not any(event.progress.HasField("seed") for event in events)


def test_the_time_to_go_is_that_of_the_last_and_known_when_all_are(served: Served) -> None:
    told: list[pb.GenerateProgress] = []
    jobs = requests.jobs_of(request(seeds=[1, 2], steps=10), ServedModels(served.store, default="tiny"))
    added = AddedUp(jobs, told.append)

    added.of(0)(pb.GenerateProgress(total=10, ahead=3, eta_s=4.0))
    added.of(1)(pb.GenerateProgress(total=10, ahead=4, eta_s=9.0))
    added.of(0)(pb.GenerateProgress(step=1, total=10, eta_s=3.0))
    added.finished(1)
    added.of(0)(pb.GenerateProgress(step=2, total=10, eta_s=2.0))

    assert [one.eta_s for one in told] == [0.0, 9.0, 9.0, 2.0]
    assert [one.ahead for one in told] == [0, 3, 0, 0]
    assert [one.step for one in told] == [0, 0, 1, 12]


def test_what_one_fails_with_stops_the_others_and_is_told(served: Served) -> None:
    stop, left = threading.Event(), []

    def make(job: GenerationJob, _: OnProgress) -> None:
        if job.parameters.seed == 2:
            raise FailedPrecondition("not finite", reason="OUTPUT_NOT_FINITE")
        stop.wait(10)
        left.append(job.parameters.seed)
        raise Cancelled("stopped")

    jobs = requests.jobs_of(request(seeds=[1, 2, 3]), ServedModels(served.store, default="tiny"))
    with pytest.raises(FailedPrecondition) as failed:
        all_at_once(jobs, make, lambda _: None, stop)

    assert (failed.value.reason, failed.value.metadata) == ("OUTPUT_NOT_FINITE", {"seed": "2"})
    assert sorted(left) == [1, 3]


def test_a_retry_makes_only_what_is_not_there(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    generate, made = Generator.generate, threading.Semaphore(0)

    def broken(own: Generator, job: GenerationJob, *more: Any) -> GenerationResult:
        if job.parameters.seed == 83:
            for _ in range(2):
                assert made.acquire(timeout=30)
            raise Unavailable("the store is down")
        try:
            return generate(own, job, *more)
        finally:
            made.release()

    asked = request(seeds=[81, 82, 83])
    monkeypatch.setattr(Generator, "generate", broken)
    code, _ = refusal(lambda: served.stub.Generate(asked))
    monkeypatch.setattr(Generator, "generate", generate)
    again = served.stub.Generate(asked)

    assert code == grpc.StatusCode.UNAVAILABLE
    assert [again.action.reused, *(one.action.reused for one in again.others)] == [True, True, False]


def test_more_seeds_than_places_are_made_one_after_another(crowded: Served) -> None:
    response = crowded.stub.Generate(request(seeds=[1, 2, 3, 4, 5]), timeout=60)

    assert response.action.reused
    assert not any(one.action.reused for one in response.others)
    assert len(response.others) == 4


def test_where_others_have_every_place_seeds_are_refused_like_one(crowded: Served) -> None:
    with long_job(crowded):
        waiting = crowded.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seed=2)))
        next(iter(waiting))
        code, details = refusal(lambda: crowded.stub.Generate(request(seeds=[3, 4])))
        waiting.cancel()  # type: ignore[no-untyped-call]

    assert code == grpc.StatusCode.UNAVAILABLE
    assert "all 2 places are taken" in details


def test_those_that_wait_for_a_place_leave_with_the_caller(served: Served) -> None:
    stop = threading.Event()

    def make(job: GenerationJob, _: OnProgress) -> None:
        if job.parameters.seed == 1:
            stop.wait(10)
            raise Cancelled("stopped")
        raise Busy("every place is taken", retry_after_s=600)

    jobs = requests.jobs_of(request(seeds=[1, 2]), ServedModels(served.store, default="tiny"))
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Cancelled):
        all_at_once(jobs, make, lambda _: None, stop)


def test_what_is_inlined_has_no_more_bytes_together_than_one_may_have(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = served.stub.Generate(request(seed=91)).audio.size_bytes
    monkeypatch.setattr("luthier_inference.service.MAX_INLINE_BYTES", round(2.5 * one))

    response = served.stub.Generate(request(seeds=[91, 92, 93], inline_audio=True))

    inlined = [bool(response.inline_audio), *(bool(made.inline_audio) for made in response.others)]
    assert inlined == [True, True, False]
    assert response.others[0].inline_audio == served.store.blobs.read(response.others[0].audio)
    assert any("of all together" in note for note in response.others[1].notes)


def test_cancelling_stops_every_seed_within_a_step(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(together: Sequence[Denoising]) -> None:
        time.sleep(0.1)
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", slow)
    call = served.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seeds=[95, 96], steps=1000)))
    seen = {event.progress.seed for event, _ in zip(call, range(8), strict=False)}
    at_cancel = steps_done()
    call.cancel()  # type: ignore[no-untyped-call]

    assert seen == {95, 96}
    assert settled() - at_cancel <= 2
