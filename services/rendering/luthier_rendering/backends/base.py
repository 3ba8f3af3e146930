"""The interface of a back end, and what it is configured by."""

from dataclasses import dataclass
from typing import Final, Protocol

from luthier_music.audio import Samples
from luthier_rendering.performance import Performance

MAX_MAP_BYTES: Final = 1 << 20  # of a plugin map; a hundred plugins with all their parameters


@dataclass(frozen=True)
class BackendConfig:
    """Paths as texts, so that the configuration travels to a child process; empty = the packaged one, or none.

    `vst3_map` is the JSON text of a plugin map (see vst3.py).
    """

    soundfont: str = ""
    vst3_path: str = ""
    vst3_map: str = ""


@dataclass(frozen=True)
class Playable:
    """An instrument that a back end can play, what plays it, and the SHA-256 of that."""

    backend: str
    program: int
    is_drum: bool
    preset: str
    digest: str


class Backend(Protocol):
    """Plays performances. Used from one process's main thread; state never leaks from one to the next."""

    def render(self, performance: Performance, frames: int) -> tuple[Samples, str]:
        """Samples [frames, 2] at 44.1 kHz, and the name of what played. Raises BackendError."""
        ...

    def playables(self) -> list[Playable]:
        """Everything that it can play."""
        ...

    def digests(self) -> dict[str, str]:
        """Name to SHA-256 of every file whose change would change the sound."""
        ...

    def faults(self) -> list[str]:
        """Why something configured cannot be used, one line each."""
        ...


class BackendError(Exception):
    """An instrument could not play: its message says which and why."""
