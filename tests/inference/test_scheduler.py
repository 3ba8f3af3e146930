"""Requests that share a device: passes, cancelling, refusals with estimates, errors that hurt one alone."""

import gc
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from luthier_inference.memory import Need
from luthier_inference.scheduler import AdmittedRequest, Forecast, Scheduler
from luthier_inference.work import Costs, Stage, Work, amount_of
from luthier_kit.rpc import Busy, Cancelled, DeadlineExceeded, Unavailable
from luthier_model.generation import Denoising, GenerationParameters, LoadedModel, Samples, decode, denoise, evaluate
from luthier_model.loading import load
from tests.model.small import ModelFiles

from .conftest import device

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(model_files: ModelFiles) -> LoadedModel:
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    return LoadedModel(network, model_files.configuration, CPU)


def parameters(**fields: Any) -> GenerationParameters:
    return GenerationParameters(**{"prompt": "calm piano", "seed": 11, "seconds_total": 1.0, "steps": 6, **fields})


def generated(scheduler: Scheduler, model: LoadedModel, p: GenerationParameters, **more: Any) -> Samples:
    stop = more.pop("stop", None) or threading.Event()
    on_step = more.pop("on_step", lambda *_: None)
    with scheduler.enter("model", amount_of(model.configuration, p), stop, **more) as request:
        return request.run(Work(model, p, None, on_step))


def alone(model: LoadedModel, p: GenerationParameters) -> Samples:
    return decode(model, p, list(denoise(model, p))[-1].latents)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The seeds of each pass of the network."""
    seen: list[list[int]] = []

    def watched(together: Sequence[Denoising]) -> None:
        seen.append([each.parameters.seed for each in together])
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", watched)
    return seen


@pytest.fixture
def fixed_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is measured to take 0.1 s, so that what is promised does not hang on how busy this machine is."""

    def learn(costs: Costs, stage: Stage, *_: float) -> None:
        costs._each[stage] = 0.1

    monkeypatch.setattr(Costs, "learn", learn)


class Held:
    """Holds the device in the first step of a request until told otherwise; at the end of a test in any case."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()

    def __call__(self, *_: object) -> None:
        self.reached.set()
        self.go_on.wait(30)


def test_requests_share_passes_and_are_as_alone(model: LoadedModel, passes: list[list[int]]) -> None:
    wanted = [
        parameters(seed=1, steps=40),
        parameters(seed=2, steps=15, sampler="k-heun"),
        parameters(seed=3, steps=30, guidance_scale=1.0, seconds_total=2.0),
    ]
    expected = [alone(model, p) for p in wanted]

    with device(batch=4) as scheduler, ThreadPoolExecutor(3) as threads, Held() as held:
        first = threads.submit(generated, scheduler, model, wanted[0], on_step=held)
        assert held.reached.wait(60)  # the others join a generation that is under way
        others = [threads.submit(generated, scheduler, model, p) for p in wanted[1:]]
        while sum(request.work is not None for request in scheduler._taken) < 3:
            held.go_on.wait(0.01)
        held.go_on.set()
        made = [each.result() for each in (first, *others)]

    assert max(map(len, passes)) == 3
    for got, want in zip(made, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max(), rtol=0)


def test_a_short_request_does_not_wait_for_the_end_of_a_long_one(model: LoadedModel, passes: list[list[int]]) -> None:
    with device(batch=1) as scheduler, ThreadPoolExecutor(2) as threads, Held() as held:
        long = threads.submit(generated, scheduler, model, parameters(seed=1, steps=200), on_step=held)
        assert held.reached.wait(60)
        short = threads.submit(generated, scheduler, model, parameters(seed=2, steps=4))
        while sum(request.work is not None for request in scheduler._taken) < 2:
            held.go_on.wait(0.01)
        held.go_on.set()
        short.result()
        before = len(passes)
        long.result()

    order = [seeds[0] for seeds in passes]
    assert order.count(1) == 200
    assert before < 100
    assert 1 in order[order.index(2) :]


def test_cancelling_frees_the_place_in_the_next_step(model: LoadedModel, passes: list[list[int]]) -> None:
    stop = threading.Event()
    with device(slots=1, queue=0) as scheduler, ThreadPoolExecutor(1) as threads, Held() as held:
        leaving = threads.submit(generated, scheduler, model, parameters(seed=1, steps=1000), stop=stop, on_step=held)
        assert held.reached.wait(60)
        stop.set()
        held.go_on.set()
        with pytest.raises(Cancelled):
            leaving.result()
        generated(scheduler, model, parameters(seed=2, steps=1))

    assert [seeds[0] for seeds in passes] == [1, 2]


def test_one_that_waits_is_cancelled_without_its_turn(model: LoadedModel) -> None:
    stop = threading.Event()
    with device(slots=1, queue=1) as scheduler, ThreadPoolExecutor(2) as threads, Held() as held:
        working = threads.submit(generated, scheduler, model, parameters(steps=3), on_step=held)
        assert held.reached.wait(60)
        waiting = threads.submit(generated, scheduler, model, parameters(seed=2), stop=stop)
        while sum(request.work is not None for request in scheduler._taken) < 2:
            held.go_on.wait(0.01)
        stop.set()
        held.go_on.set()
        with pytest.raises(Cancelled):
            waiting.result()
        working.result()


def test_without_a_place_it_is_refused_at_once_with_an_estimate(model: LoadedModel) -> None:
    with device(slots=1, queue=0) as scheduler, ThreadPoolExecutor(1) as threads, Held() as held:
        generated(scheduler, model, parameters(steps=2))  # what things cost is known now
        working = threads.submit(generated, scheduler, model, parameters(steps=500), on_step=held)
        assert held.reached.wait(60)
        with pytest.raises(Busy, match="free in about") as refused:
            generated(scheduler, model, parameters(seed=2))
        held.go_on.set()
        working.cancel()
        scheduler._taken[0].stop.set()

    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


@pytest.mark.usefixtures("fixed_costs")
def test_a_deadline_that_cannot_be_met_is_refused_at_once(model: LoadedModel, passes: list[list[int]]) -> None:
    stop = threading.Event()
    with device(slots=1) as scheduler, ThreadPoolExecutor(1) as threads, Held() as held:
        generated(scheduler, model, parameters(steps=3, seed=1))
        with pytest.raises(DeadlineExceeded, match="takes about 20"):
            generated(scheduler, model, parameters(steps=100, seed=2), time_left_s=19)

        working = threads.submit(generated, scheduler, model, parameters(steps=100, seed=1), on_step=held, stop=stop)
        assert held.reached.wait(60)
        with pytest.raises(Unavailable, match="would be ready in about") as refused:
            generated(scheduler, model, parameters(steps=50, seed=2), time_left_s=20)
        stop.set()
        held.go_on.set()
        with pytest.raises(Cancelled):
            working.result()

    assert refused.value.reason == "DEADLINE_TOO_NEAR"
    assert {seed for seeds in passes for seed in seeds} == {1}


def test_closing_leaves_nobody_waiting(model: LoadedModel) -> None:
    with device(slots=1) as scheduler, ThreadPoolExecutor(2) as threads, Held() as held:
        both = [threads.submit(generated, scheduler, model, parameters(seed=1, steps=900), on_step=held)]
        assert held.reached.wait(60)
        both.append(threads.submit(generated, scheduler, model, parameters(seed=2)))
        while sum(request.work is not None for request in scheduler._taken) < 2:
            held.go_on.wait(0.01)
        held.go_on.set()
        scheduler.close()
        for each in both:
            with pytest.raises(Cancelled, match="stops"):
                each.result(timeout=10)
        with pytest.raises(Cancelled, match="stops"):
            generated(scheduler, model, parameters(seed=3))


def test_one_that_waits_is_told_how_many_are_ready_before_it(model: LoadedModel) -> None:
    told: list[Forecast] = []
    with device(slots=1, queue=2) as scheduler, ThreadPoolExecutor(2) as threads, Held() as held:
        generated(scheduler, model, parameters(steps=2))
        working = threads.submit(generated, scheduler, model, parameters(steps=20), on_step=held)
        assert held.reached.wait(60)
        waiting = threads.submit(generated, scheduler, model, parameters(seed=2), on_forecast=told.append)
        while not told:
            held.go_on.wait(0.01)
        held.go_on.set()
        working.result()
        waiting.result()

    assert told[0].ahead == 1
    assert told[0].ready_s > 0


def test_what_breaks_breaks_one_request_alone(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(together: Sequence[Denoising]) -> None:
        if any(each.parameters.seed == 13 for each in together):
            raise ValueError("thirteen")
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", breaks)
    with device(batch=4) as scheduler, ThreadPoolExecutor(2) as threads, Held() as held:
        sound = threads.submit(generated, scheduler, model, parameters(seed=1), on_step=held)
        assert held.reached.wait(60)
        broken = threads.submit(generated, scheduler, model, parameters(seed=13))
        while sum(request.work is not None for request in scheduler._taken) < 2:
            held.go_on.wait(0.01)
        held.go_on.set()
        with pytest.raises(ValueError, match="thirteen"):
            broken.result()
        np.testing.assert_allclose(sound.result(), alone(model, parameters(seed=1)), atol=1e-5)


def test_a_device_without_memory_left_is_unavailable(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Sequence[Denoising]) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("luthier_inference.work.evaluate", full)
    with device() as scheduler, pytest.raises(Unavailable, match="memory"):
        generated(scheduler, model, parameters())


def test_a_pass_that_does_not_fit_is_tried_one_by_one(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, passes: list[list[int]]
) -> None:
    watched = evaluate

    def at_most_one(together: Sequence[Denoising]) -> None:
        if len(together) > 1:
            raise torch.OutOfMemoryError
        watched(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", at_most_one)
    with device(batch=2) as scheduler, ThreadPoolExecutor(2) as threads, Held() as held:
        both = [threads.submit(generated, scheduler, model, parameters(seed=1), on_step=held)]
        assert held.reached.wait(60)
        both.append(threads.submit(generated, scheduler, model, parameters(seed=2)))
        while sum(request.work is not None for request in scheduler._taken) < 2:
            held.go_on.wait(0.01)
        held.go_on.set()
        for seed, made in zip((1, 2), both, strict=True):
            np.testing.assert_allclose(made.result(), alone(model, parameters(seed=seed)), atol=1e-5)


@pytest.mark.parametrize(("memory", "most"), [(100, 3), (80, 2), (50, 1)])
def test_a_pass_takes_as_many_as_there_is_memory_for(
    model: LoadedModel, passes: list[list[int]], memory: int, most: int
) -> None:
    need = Need(held=10, alone=20, row=10)  # guidance has two rows
    with device(batch=4, memory=memory) as scheduler, ThreadPoolExecutor(3) as threads, Held() as held:
        made = [threads.submit(generated, scheduler, model, parameters(seed=1, steps=20), on_step=held, need=need)]
        assert held.reached.wait(60)
        made += [threads.submit(generated, scheduler, model, parameters(seed=s, steps=20), need=need) for s in (2, 3)]
        while sum(request.work is not None for request in scheduler._taken) < 3:
            held.go_on.wait(0.01)
        held.go_on.set()
        for each in made:
            each.result()

    assert max(map(len, passes)) == most


def test_what_memory_has_no_room_for_begins_when_others_are_done(model: LoadedModel, passes: list[list[int]]) -> None:
    large, small = Need(held=60, alone=20), Need(held=5, alone=20)
    with device(memory=100) as scheduler, ThreadPoolExecutor(3) as threads, Held() as held:
        made = [threads.submit(generated, scheduler, model, parameters(seed=1, steps=30), on_step=held, need=large)]
        assert held.reached.wait(60)
        for seed, need in ((2, large), (3, small)):
            made.append(threads.submit(generated, scheduler, model, parameters(seed=seed, steps=30), need=need))
            while sum(request.work is not None for request in scheduler._taken) < seed:
                held.go_on.wait(0.01)
        held.go_on.set()
        for each in made:
            each.result()

    order = [seeds[0] for seeds in passes]
    assert order[:30] == [1] * 30  # a small one does not overtake what waits for memory, lest it waits for ever
    assert set(order[30:]) == {2, 3}


def test_a_request_that_is_done_leaves_nothing_behind(model: LoadedModel) -> None:
    p, stop, ends = parameters(steps=2), threading.Event(), time.monotonic() + 30
    gc.collect()
    gc.disable()
    try:
        with device() as scheduler:
            with scheduler.enter("model", amount_of(model.configuration, p), stop) as request:

                def on_step(*_: float, told: AdmittedRequest = request) -> None:
                    told.eta_s()

                work = Work(model, p, None, on_step)
                left = weakref.ref(work)
                request.run(work)
            del request, work, on_step
            while scheduler._taken or left() is not None:  # the device's thread may be about to look at it
                assert not stop.wait(0.01)
                assert time.monotonic() < ends
    finally:
        gc.enable()


def test_what_is_left_grows_less_with_every_step(model: LoadedModel) -> None:
    work = Work(model, parameters(steps=4))
    left = [work.left()]
    while work.stage is not Stage.DONE:
        if work.stage is Stage.BEGIN:
            work.begin()
        elif work.stage is Stage.DENOISE:
            Work.evaluate([work])
            work.passed()
        else:
            work.decode()
        left.append(work.left())

    assert left[0] == amount_of(model.configuration, parameters(steps=4))
    assert [each.rows for each in left] == [8, 8, 6, 4, 2, 0, 0]
    assert (left[-1].begins, left[-1].pieces) == (0, 0)
