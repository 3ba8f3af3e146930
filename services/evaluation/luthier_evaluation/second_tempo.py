"""A second opinion on tempo: that of the beats, where another estimator than the one that measured tempo found them."""

from typing import Final

import numpy as np

from luthier.analysis.v1.analysis_pb2 import Beats
from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO, TempoFact

MIN_BEATS: Final = 4
DECIMALS: Final = 3  # of a tempo in BPM, as analysis gives it


def beat_tempo(beats: Beats, tempo: TempoFact) -> TempoFact | None:
    """The tempo of the line through the beats, in which a missed beat counts as one that passed.

    None for fewer than MIN_BEATS beats, and where both are by one library (`essentia/…`), as they are where BeatNet is
    not installed: that is no second opinion.
    """
    if len(beats.beats) < MIN_BEATS or _library(beats.estimator) == _library(tempo.estimator):
        return None
    times_s = np.array([beat.time_s for beat in beats.beats])
    intervals = np.diff(times_s)
    if not np.median(intervals) > 0:
        return None
    passed = np.maximum(1, np.round(intervals / np.median(intervals)))
    seconds_a_beat = np.polyfit(np.concatenate([[0], np.cumsum(passed)]), times_s, 1)[0]
    return TempoFact(
        tempo_bpm=round(float(60 / seconds_a_beat), DECIMALS),
        source=FACT_SOURCE_AUDIO,
        estimator=f"{beats.estimator}/beat-line",
        confidence=beats.confidence,
    )


def _library(estimator: str) -> str:
    return estimator.partition("/")[0]
