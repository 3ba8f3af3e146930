"""Supervised render workers: one song each at a time, a deadline per song, replaced when they crash, hang or age.

`ProcessPoolExecutor` is unusable after one crash; here a crash costs the one song that was playing. Workers are
ordinary subprocesses (never forks: the parent speaks gRPC), spoken to in JSON lines.
"""

import json
import logging
import os
import queue
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

from luthier_kit import exits
from luthier_kit.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    QuotaExceeded,
    Unavailable,
)
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.job import RenderJob, RenderResult, to_json
from luthier_rendering.limits import MidiLimits
from luthier_rendering.worker import EXIT_BUG

log = logging.getLogger(__name__)
_POLL_S = 0.25
_START_DEADLINE_S = 60.0
_NOISE_BYTES = 1 << 20  # what a plugin may print before it is thrown away
_NOISE_LOGGED = 2000
_FAILURES = {"INSTRUMENT_FAILED": FailedPrecondition, "SCRATCH_FULL": QuotaExceeded}


class WorkerDied(Unavailable):
    """The child ended while a song played. `crashed`: by its own doing; else it was killed, for memory perhaps."""

    reason = "RENDER_WORKER_DIED"

    def __init__(self, message: str, crashed: bool) -> None:
        super().__init__(message)
        self.crashed = crashed


class Worker:
    """One child process."""

    def __init__(self, config: BackendConfig) -> None:
        self.songs = 0
        self._noise: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - lives as long as the child
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "luthier_rendering.worker", json.dumps(asdict(config)), str(writing)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._noise,
            pass_fds=(writing,),
            start_new_session=True,  # a stop signal for the group is ours to handle: songs in progress are finished
        )
        os.close(writing)
        self._replies, self._pending = reading, b""
        self._playing = "starting"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def render(
        self, job: RenderJob, limits: MidiLimits, deadline_s: float, cancelled: Callable[[], bool]
    ) -> RenderResult:
        """Render one song. Unavailable, DeadlineExceeded and Cancelled leave the worker unusable: stop it."""
        if self.songs == 0:
            self._await(("ready",), _START_DEADLINE_S, cancelled)
        self.songs += 1
        self._playing = "nothing yet"
        self._noise.truncate(0)
        order = {"job": to_json(job), "limits": asdict(limits), "deadline_s": int(deadline_s) + 5}
        self._send(json.dumps(order))
        kind, answer = self._await(("result", "refused", "failed"), deadline_s, cancelled)
        if kind == "refused":
            raise InvalidRequest(answer["message"], reason=answer["reason"], violations=[("midi", answer["message"])])
        if kind == "failed":
            raise _FAILURES.get(answer["reason"], Unavailable)(answer["message"], reason=answer["reason"])
        return RenderResult.from_json(answer)

    def stop(self) -> None:
        """End the process now and free everything."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        os.close(self._replies)
        self._noise.close()

    def _send(self, line: str) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._died()

    def _await(self, kinds: tuple[str, ...], deadline_s: float, cancelled: Callable[[], bool]) -> tuple[str, Any]:
        """The first message of one of `kinds`."""
        end = time.monotonic() + deadline_s
        for message in self._messages(end, cancelled):
            self._playing = message.get("playing", self._playing)
            kind = next((kind for kind in message if kind in kinds), None)
            if kind:
                return kind, message[kind]
        raise DeadlineExceeded(
            f"rendering took more than {deadline_s:g} s and was ended while playing {self._playing}",
            reason="RENDER_TOO_SLOW",
        )

    def _messages(self, end: float, cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Messages as they come, until `end`."""
        poller = select.poll()
        poller.register(self._replies, select.POLLIN)
        while time.monotonic() < end:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                yield json.loads(line)
            if cancelled():
                raise Cancelled("the caller went away while the song was rendered")
            if os.fstat(self._noise.fileno()).st_size > _NOISE_BYTES:
                self._noise.truncate(0)
            if poller.poll(_POLL_S * 1000):
                data = os.read(self._replies, 1 << 16)
                if not data:
                    self._died()
                self._pending += data

    def _died(self) -> None:
        try:
            code = self._process.wait(_POLL_S)
        except subprocess.TimeoutExpired:  # it lives, but a plugin closed its descriptors
            self._process.kill()
            code = self._process.wait()
        self._noise.seek(max(0, os.fstat(self._noise.fileno()).st_size - _NOISE_LOGGED))
        message = f"the render worker ended with {exits.told(code)} while playing {self._playing}"
        log.error("%s; its last words: %s", message, self._noise.read().decode(errors="replace").strip())
        if self.songs == 0:
            raise Unavailable(message, reason="RENDER_WORKER_NOT_STARTED")  # whatever the song: nobody looked at it
        if code == EXIT_BUG:
            raise Internal(message)
        raise WorkerDied(message, exits.crashed(code))


class RenderPool:
    """As many workers as songs may be rendered at once, started when first needed and then kept."""

    def __init__(
        self, config: BackendConfig, *, workers: int, deadline_s: float, songs_per_worker: int, limits: MidiLimits
    ) -> None:
        self._config, self._limits = config, limits
        self._deadline_s, self._songs_per_worker = deadline_s, songs_per_worker
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)

    def render(
        self, job: RenderJob, *, deadline_s: float | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> RenderResult:
        """Render one song in a worker, waiting for a free one.

        InvalidRequest: the file is refused. FailedPrecondition INSTRUMENT_FAILED. WorkerDied.
        DeadlineExceeded: it took too long. Cancelled: the caller went.
        """
        bound_s = min(self._deadline_s, deadline_s if deadline_s is not None else self._deadline_s)
        with self._worker() as worker:
            return worker.render(job, self._limits, bound_s, cancelled)

    def close(self) -> None:
        """Stop all idle workers; those at work end with this process."""
        while not self._idle.empty():
            worker = self._idle.get_nowait()
            if worker:
                worker.stop()

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        """A worker that goes back to the idle ones, or is stopped and replaced when it failed or is old."""
        kept = self._idle.get()
        if kept and not kept.alive:
            kept.stop()
            kept = None
        worker = kept or Worker(self._config)
        usable = False
        try:
            yield worker
            usable = worker.songs < self._songs_per_worker
        except InvalidRequest:
            usable = worker.songs < self._songs_per_worker
            raise
        finally:
            if not usable:
                worker.stop()
            self._idle.put(worker if usable else None)
