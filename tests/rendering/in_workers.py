"""Songs rendered in worker processes, as the service renders them, and callers that wait for them."""

import time
from collections.abc import Callable
from pathlib import Path

from luthier_kit.workers import Reasons, Workers
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderParameters, RenderResult, render_file
from luthier_rendering.smf import MidiLimits

REASONS = Reasons("song", "RENDERER_CRASHED", "RENDERER_KILLED", "RENDER_TOO_SLOW", "RENDER_WORKER_NOT_STARTED")


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


class Waiting:
    """As much of a ServicerContext as the workers look at: a caller with so many seconds left, who may go away."""

    def __init__(self, left_s: float | None = None) -> None:
        self.left_s = left_s
        self.leave: Callable[[], object] = lambda: None

    def time_remaining(self) -> float | None:
        return self.left_s

    def add_callback(self, callback: Callable[[], object]) -> bool:
        self.leave = callback
        return True


class Renderer:
    """Workers that render with one configuration."""

    def __init__(self, config: BackendConfig, *, count: int = 1, songs_per_worker: int = 50) -> None:
        self.config = config
        self.workers = Workers(
            count, REASONS, max_job_s=120, jobs_per_worker=songs_per_worker, preload=("luthier_rendering.render",)
        )

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.workers.close()

    def render(
        self, folder: Path, data: bytes, *, backend: str, call: Waiting | None = None, mix_only: bool = False
    ) -> RenderResult:
        folder.mkdir(exist_ok=True)
        midi = folder / "song.mid"
        midi.write_bytes(data)
        parameters = RenderParameters(backend, 1, mix_only=mix_only)
        done = self.workers.run(call, folder, render_file, midi, MidiLimits(), self.config, parameters, folder)
        return done.result
