"""What goes into a job and comes out of it: plain data that travels between processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier_analysis.facts import ClipFacts, Section


@dataclass(frozen=True)
class Plan:
    """Lengths in seconds, min_s <= target_s <= max_s, and the most clips of a song."""

    target_s: float = 30.0
    min_s: float = 20.0
    max_s: float = 32.0
    max_clips: int = 40


@dataclass(frozen=True)
class Clip:
    """A clip: its file, its place in the song, the facts of this place, the label of the section it starts in."""

    path: Path
    start_s: float
    end_s: float
    facts: ClipFacts
    section: str
    on_bar_lines: bool


@dataclass(frozen=True)
class SongCut:
    """The clips and sections of a song, and what was left out."""

    clips: tuple[Clip, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Analysis:
    """Results by the name of the feature asked for, and what was looked at."""

    found: dict[str, Any]
    duration_s: float
    sample_rate_hz: int
    channels: int
