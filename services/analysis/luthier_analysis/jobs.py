"""What a child process does: one decoded file, one answer of plain data."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier_analysis.clips import SongCut, cut_song
from luthier_analysis.cutting import Plan
from luthier_analysis.features import FEATURES
from luthier_analysis.features.options import Options
from luthier_analysis.sound import load
from luthier_analysis.timeline import Span, Timeline


@dataclass(frozen=True)
class Analysis:
    """Results by the name of the feature asked for, and what was looked at."""

    found: dict[str, Any]
    duration_s: float
    sample_rate_hz: int
    channels: int


def analyze(path: Path, names: tuple[str, ...], span: Span | None, options: Options) -> Analysis:
    """Measure the features named, and no others. Raises AudioError for what cannot be decoded."""
    sound = load(path, span)
    found = {name: FEATURES[name](sound, options) for name in names}
    return Analysis(found, sound.duration_s, sound.sample_rate_hz, sound.channels)


def cut(path: Path, timeline: Timeline | None, plan: Plan, options: Options, directory: Path) -> tuple[SongCut, float]:
    """Cut a song into files in `directory`; the CPU seconds that it took. Raises AudioError."""
    started = time.process_time()
    result = cut_song(load(path), timeline, plan, options, directory)
    return result, time.process_time() - started


def warm_up() -> None:
    """Nothing: to have run it, the child has imported everything above."""
