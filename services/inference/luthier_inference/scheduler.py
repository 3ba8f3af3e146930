"""The step scheduler: requests share the device from one pass of the network to the next.

One thread works on the device. Before each pass everything is decided anew: those whose caller left are dropped, who
goes next follows from `order`, and up to `batch` requests of the same model go in one pass, whatever their steps,
samplers, guidance, seeds or lengths. Each draws its own noise from its own seed, so what shares a pass changes nothing
but rounding.

A request takes a place (`enter`) before its model is loaded, and keeps it until its audio is decoded; encoding and
storing the file is its own thread's. Without a place it is refused at once, with an estimate of when there is one; so
is a request that could not meet its deadline beside those that are there.
"""

import ctypes
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import torch

from luthier_inference import metrics
from luthier_inference.memory import NOTHING, Memory, Need
from luthier_inference.order import Load, in_order, ready_times
from luthier_inference.work import Amount, Costs, Stage, Work, rows_of
from luthier_kit.rpc import Busy, Cancelled, DeadlineExceeded, Unavailable, Workload
from luthier_model.generation import Pace, Samples

log = logging.getLogger(__name__)

MODELS_REMEMBERED: Final = 256  # whose costs are kept
IDLE_LOOK_S: Final = 0.1  # how often callers that left are looked for while nothing can be computed
ESTIMATE_EVERY_S: Final = 1.0
TRIM_EVERY_S: Final = 10.0  # it takes some milliseconds
TOO_NEAR: Final = "DEADLINE_TOO_NEAR"
STOPS: Final = "the server stops"


@dataclass(frozen=True)
class Forecast:
    """`ahead`: requests that are ready before this one; `ready_s`: seconds until it is, 0 = not known yet."""

    ahead: int
    ready_s: float


OnForecast = Callable[[Forecast], None]


@dataclass(eq=False)
class AdmittedRequest:
    """A request that has a place in the scheduler. `run` once its model is loaded.

    `device_s`: seconds that the device worked for it, alone or along with others.
    """

    scheduler: "Scheduler"
    costs: Costs
    amount: Amount
    need: Need
    came: float
    deadline: float
    stop: threading.Event
    on_forecast: OnForecast
    work: Work | None = None
    device_s: float = 0.0
    forecast: Forecast = Forecast(0, 0.0)
    ready_at: float = 0.0
    done: "Future[Samples]" = field(default_factory=Future)

    def run(self, work: Work) -> Samples:
        """Works until the audio is there. Raises Cancelled once `stop` is set, Unavailable when memory runs out, and
        what the work raises.
        """
        self.scheduler.offer(self, work)
        return self.done.result()

    def left_s(self) -> float:
        """Seconds that it still needs alone."""
        return self.costs.seconds(self.work.left() if self.work else self.amount)

    def eta_s(self) -> float:
        """Seconds until it is ready, as estimated last."""
        return max(self.ready_at - time.monotonic(), self.left_s(), 0.0)

    def load(self) -> Load:
        """As the order sees it."""
        began = self.work is not None and self.work.stage is not Stage.BEGIN
        return Load(self.came, self.costs.seconds(self.amount), self.left_s(), self.deadline, began)


class Scheduler:
    """`slots` requests share the device, `queue` more wait; at most `batch` go in one pass, or as many as
    there is memory for.
    """

    def __init__(
        self, device: torch.device, slots: int, queue: int, batch: int, workload: Workload, memory: Memory
    ) -> None:
        self.slots, self.places, self.batch = slots, slots + queue, batch
        self._workload, self._pace, self._memory = workload, Pace(device), memory
        self._taken: list[AdmittedRequest] = []
        self._costs: OrderedDict[str, Costs] = OrderedDict()
        self._change = threading.Condition()
        self._estimated_at = self._trimmed_at = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    @contextmanager
    def enter(
        self,
        model: str,
        amount: Amount,
        stop: threading.Event,
        time_left_s: float | None = None,
        need: Need = NOTHING,
        on_forecast: OnForecast = lambda _: None,
    ) -> Iterator[AdmittedRequest]:
        """A place for a request, given back at the end of the block. `model` names what has costs of its own.

        Raises Busy when all are taken; Unavailable DEADLINE_TOO_NEAR when it could not be ready within `time_left_s`
        beside those that are there; DeadlineExceeded when it could not be even alone.
        """
        with self._change:
            costs = self._costs_of(model)
            now = time.monotonic()
            deadline = math.inf if time_left_s is None else now + time_left_s
            request = AdmittedRequest(self, costs, amount, need, now, deadline, stop, on_forecast)
            self._admit(request, now, time_left_s)
            self._taken.append(request)
            self._changed()
        try:
            yield request
        finally:
            with self._change:
                request.work = None  # which tells its steps to this request: so neither waits for the collector
                if request in self._taken:
                    self._taken.remove(request)
                    self._changed()

    def offer(self, request: AdmittedRequest, work: Work) -> None:
        """The work of a place whose model is loaded."""
        with self._change:
            request.work = work
            if self._closed:
                _fail(request, Cancelled(STOPS))
            self._change.notify_all()

    def close(self) -> None:
        """Ends the thread after the pass that it is at; what is left is cancelled."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(timeout=60)

    # --- admission

    def _costs_of(self, model: str) -> Costs:
        costs = self._costs.setdefault(model, Costs())
        self._costs.move_to_end(model)
        if len(self._costs) > MODELS_REMEMBERED:
            self._costs.popitem(last=False)
        return costs

    def _admit(self, request: AdmittedRequest, now: float, time_left_s: float | None) -> None:
        taken = self._at_work()
        ready = ready_times([each.load() for each in [*taken, request]], now, self.slots)
        if len(taken) >= self.places:
            self._workload.refused()
            first_s = max(min(ready[:-1]) - now, 1.0)
            text = f"all {self.places} places are taken; the next is free in about {first_s:.0f} s"
            raise Busy(text, retry_after_s=first_s)
        if not request.costs.known or not all(each.costs.known for each in taken):
            return
        alone_s, ready_s = request.costs.seconds(request.amount), ready[-1] - now
        if time_left_s is not None and alone_s > time_left_s:
            text = f"this takes about {alone_s:.1f} s and the call's deadline is in {time_left_s:.1f} s"
            raise DeadlineExceeded(text, reason=TOO_NEAR)
        if time_left_s is not None and ready_s > time_left_s:
            self._workload.refused()
            text = f"this would be ready in about {ready_s:.1f} s beside {len(taken)} other requests"
            text = f"{text}, and the call's deadline is in {time_left_s:.1f} s"
            raise Unavailable(text, reason=TOO_NEAR, retry_after_s=max(ready_s - alone_s, 1.0))

    def _at_work(self) -> list[AdmittedRequest]:
        return [request for request in self._taken if not request.done.done()]

    def _began(self) -> list[AdmittedRequest]:
        return [request for request in self._at_work() if request.load().began]

    def _changed(self) -> None:
        """Requests came or went: metrics and forecasts anew."""
        began = len(self._began())
        self._workload.tell(began, len(self._taken) - began)
        self._estimate()
        self._change.notify_all()

    def _estimate(self) -> None:
        self._estimated_at = now = time.monotonic()
        at_work = self._at_work()
        known = all(request.costs.known for request in at_work)
        loads = [request.load() for request in at_work]
        ready = ready_times(loads, now, self.slots)
        for request, load, at in zip(at_work, loads, ready, strict=True):
            request.ready_at = at if known else 0.0
            before, ahead = request.forecast.ahead, sum(other < at for other in ready)
            request.forecast = Forecast(ahead, at - now if known else 0.0)
            if not load.began and (before or ahead):
                request.on_forecast(request.forecast)

    # --- the device's thread

    def _work(self) -> None:
        while True:
            with self._change:
                while not (together := self._next()) and not self._closed:
                    if not self._taken:
                        self._trim(0.0)
                    self._change.wait(IDLE_LOOK_S if self._taken else None)
                if self._closed:
                    for request in self._taken:
                        _fail(request, Cancelled(STOPS))
                    return
                begins = any(request.work and request.work.stage is Stage.BEGIN for request in together)
            self._pass(together)
            self._trim(TRIM_EVERY_S)
            with self._change:
                if begins or any(request.done.done() for request in together):
                    self._changed()
                elif time.monotonic() - self._estimated_at > ESTIMATE_EVERY_S:
                    self._estimate()

    def _next(self) -> list[AdmittedRequest]:
        """Those that go now: the first in the order, and with it who can share its pass."""
        for request in self._at_work():
            if request.stop.is_set():
                metrics.CANCELLED.inc()
                _fail(request, Cancelled("the caller went away; the denoising was stopped"))
        able = [request for request in self._at_work() if request.work]
        order = in_order([request.load() for request in able], time.monotonic(), self.slots)
        going = self._within_memory([able[at] for at in order])
        if not going:
            return []
        first = going[0]
        assert first.work
        if first.work.stage is not Stage.DENOISE:
            return [first]
        alike = [
            request for request in going
            if (work := request.work) and work.stage is Stage.DENOISE and work.group == first.work.group
        ]  # fmt: skip
        together = self._one_pass(alike)
        if len(together) == len(alike) < self.batch:  # the pass has room for one that has yet to begin
            for request in going:
                if request.work and request.work.stage is Stage.BEGIN and request.work.group == first.work.group:
                    return [request]
        return together

    def _within_memory(self, requests: list[AdmittedRequest]) -> list[AdmittedRequest]:
        """Without those that would begin while there is no memory for them, nor others that would overtake these. One
        alone always goes: that it fits was known before its model was loaded.
        """
        began = [request.need for request in self._began()]
        self._memory.at_work(began)
        fits, going = True, []
        for request in requests:
            if not request.load().began:
                fits = fits and (not began or not self._memory.lacks(need=request.need))
                if not fits:
                    continue
            going.append(request)
        return going

    def _one_pass(self, alike: list[AdmittedRequest]) -> list[AdmittedRequest]:
        """As many as one pass has memory for, one at least."""
        left, together = self._memory.left([request.need for request in self._began()]), alike[:1]
        left -= alike[0].need.row * rows_of(alike[0].work.parameters) if alike[0].work else 0
        for request in alike[1 : self.batch]:
            assert request.work
            left -= request.need.row * rows_of(request.work.parameters)
            if left < 0:
                break
            together.append(request)
        return together

    def _pass(self, together: list[AdmittedRequest]) -> None:
        """One piece of work for these, or for each alone where it fails for all: what breaks, breaks one alone."""
        try:
            self._compute(together, [request.work for request in together if request.work])
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            if len(together) == 1:
                _fail(together[0], error)
                return
            log.warning("a pass of %d requests failed, each is tried alone", len(together), exc_info=error)
            for request in together:
                self._pass([request])

    def _trim(self, every_s: float) -> None:
        """Gives back free memory that glibc else keeps, such as what decoding took: 60 MB with a tiny model."""
        now = time.monotonic()
        if now - self._trimmed_at >= every_s and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            self._trimmed_at = now
            trim(0)

    def _compute(self, together: list[AdmittedRequest], works: list[Work]) -> None:
        stage, began, number = works[0].stage, time.perf_counter(), 1
        if stage is Stage.BEGIN:
            works[0].begin()
        elif stage is Stage.DENOISE:
            Work.evaluate(works)
            self._pace.keep()
            number = sum(rows_of(work.parameters) for work in works)
        else:
            works[0].decode()
        seconds = time.perf_counter() - began
        together[0].costs.learn(stage, seconds, number)
        for request, work in zip(together, works, strict=True):
            request.device_s += seconds
            work.passed()
            if work.stage is Stage.DONE and not request.done.done():
                request.done.set_result(work.samples)


def out_of_memory() -> Unavailable:
    """A device that has no memory left is busy, not broken: another server may be tried."""
    text = "the device has not enough free memory for this now"
    return Unavailable(text, reason="DEVICE_OUT_OF_MEMORY", retry_after_s=10.0)


def _fail(request: AdmittedRequest, error: Exception) -> None:
    if isinstance(error, torch.OutOfMemoryError):
        error = out_of_memory()
    if not request.done.done():
        request.done.set_exception(error)
