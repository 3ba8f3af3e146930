"""The interface of a back end, and what it is configured by."""

import random
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_music.audio import Samples
from luthier_music.instruments import Instrument
from luthier_rendering.humanise import Humanise
from luthier_rendering.performance import Performance


@dataclass(frozen=True)
class BackendConfig:
    """Paths as texts, so that the configuration travels to a child process; empty = the packaged one, or none.

    `instrument_map` is the text of a map (instrument_map.py), `fetched` the folder of SoundFonts from the store,
    `soundfont_licence` what `soundfont` is under, as its owner says.
    """

    soundfont: str = ""
    soundfont_path: str = ""
    vst3_path: str = ""
    instrument_map: str = ""
    fetched: str = ""
    soundfont_licence: str = ""

    @property
    def maps(self) -> bool:
        """Whether there is something to draw from: a map, or plugins for the packaged one."""
        return bool(self.instrument_map or self.vst3_path)


@dataclass(frozen=True)
class Playable:
    """An instrument that a back end can play, what plays it, and the SHA-256 of that."""

    backend: str
    program: int
    is_drum: bool
    preset: str
    digest: str


class Drawn(NamedTuple):
    """Samples [frames, 2] at 44.1 kHz before any effect, and the record of what played them, effects included."""

    samples: Samples
    sound: pb.Sound


class Backend(Protocol):
    """Plays performances. Used from one process's main thread; state never leaks from one to the next."""

    def render(self, performance: Performance, frames: int, draw: random.Random) -> Drawn:
        """A performance on instruments and effects that `draw` chooses. Raises BackendError."""
        ...

    def render_again(self, performance: Performance, frames: int, sound: pb.Sound) -> Samples:
        """Samples [frames, 2] of a performance on the instrument of a record, before its effects. Raises BackendError
        when it cannot play, UnknownSound when it is not here."""
        ...

    def room(self, draw: random.Random) -> pb.Effect | None:
        """The room that all stems of a song share, None for none."""
        ...

    @property
    def humanise(self) -> Humanise:
        """How notes are humanised when a request says nothing."""
        ...

    def sounds_of(self, who: Instrument) -> frozenset[str]:
        """What may play an instrument, by names that are equal for what is the same sound; empty = nothing can."""
        ...

    def playables(self) -> list[Playable]:
        """Everything that it can play."""
        ...

    def digests(self) -> dict[str, str]:
        """Name to SHA-256 of every file whose change would change the sound."""
        ...

    def licences(self) -> list[str]:
        """Licences of the sounds that it plays, as far as they are known."""
        ...

    def faults(self) -> list[str]:
        """Why something configured cannot be used, one line each."""
        ...


class BackendError(Exception):
    """An instrument could not play: its message says which and why."""


class UnknownSound(BackendError):
    """What a record names is not here, or is another file by now."""


class Unusable(BackendError):
    """What an instrument played is no sound that can be used: another draw may be."""

    def __init__(self, source: str, reason: str) -> None:
        """`reason`: SILENT, NOT_FINITE or CLIPPED."""
        super().__init__(f"{source} played what is {reason}")
        self.source, self.reason = source, reason


SILENT, NOT_FINITE, CLIPPED = "silent", "NaN or infinity", "clipped"
