"""What a child process does: one decoded file, one answer of plain data.

The imports stand inside: the parent names these functions, and never loads essentia or SciPy.
"""

import time
from pathlib import Path

from luthier_analysis.features.options import Options
from luthier_analysis.results import Analysis, Plan, SongCut
from luthier_analysis.timeline import Span, Timeline


def analyze(path: Path, names: tuple[str, ...], span: Span | None, options: Options) -> Analysis:
    """Measure the features named, and no others. Raises AudioError for what cannot be decoded."""
    from luthier_analysis.features.registry import FEATURES
    from luthier_analysis.sound import load

    sound = load(path, span)
    found = {name: FEATURES[name](sound, options) for name in names}
    return Analysis(found, sound.duration_s, sound.sample_rate_hz, sound.channels)


def cut(path: Path, timeline: Timeline | None, plan: Plan, options: Options, directory: Path) -> tuple[SongCut, float]:
    """Cut a song into files in `directory`; the CPU seconds that it took. Raises AudioError."""
    from luthier_analysis.clips import cut_song
    from luthier_analysis.sound import load

    started = time.process_time()
    result = cut_song(load(path), timeline, plan, options, directory)
    return result, time.process_time() - started


def warm_up() -> None:
    """Import what the jobs need."""
    from luthier_analysis import clips  # noqa: F401
