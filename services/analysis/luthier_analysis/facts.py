"""What can be said about a stretch of music, each with its source. None = unknown."""

from dataclasses import dataclass
from enum import Enum

from luthier_music.keys import Key


class Source(Enum):
    """Where a fact comes from."""

    NOTES = "notes"
    TEMPO_MAP = "tempo map"
    AUDIO = "audio"


@dataclass(frozen=True)
class Tempo:
    """Beats per minute. `changes`: not steady, tempo_bpm is the time-weighted mean. confidence 0..1, 0 = not given."""

    tempo_bpm: float
    source: Source
    estimator: str = ""
    confidence: float = 0.0
    changes: bool = False
    note: str = ""  # a visible fallback: why another estimator than the one asked for spoke


@dataclass(frozen=True)
class KeyFound:
    """A key with the strength (audio) or margin (notes) that its source states, 0..1."""

    key: Key
    strength: float
    source: Source
    estimator: str


@dataclass(frozen=True)
class Loudness:
    """Integrated loudness (BS.1770-4) and sample peak."""

    loudness_lufs: float
    peak_dbfs: float


@dataclass(frozen=True)
class Section:
    """A section; sections that sound alike share a label. boundary_strength 0..1 is that of its start."""

    start_s: float
    end_s: float
    label: str
    boundary_strength: float


@dataclass(frozen=True)
class Descriptor:
    """A scalar; the unit is in the name."""

    name: str
    value: float
    estimator: str


@dataclass(frozen=True)
class InstrumentShare:
    """An instrument and the share of the span in which it sounds, 0..1."""

    instrument: str
    family: str
    share: float


@dataclass(frozen=True)
class ClipFacts:
    """The facts of one clip's own span; `tempo` and `key` are those to use, the estimates are kept beside them."""

    duration_s: float
    tempo: Tempo | None
    estimated_tempo: Tempo | None
    key: KeyFound | None
    estimated_key: KeyFound | None
    instruments: tuple[InstrumentShare, ...]
    loudness: Loudness | None
    descriptors: tuple[Descriptor, ...]
    meter: tuple[int, int] | None
