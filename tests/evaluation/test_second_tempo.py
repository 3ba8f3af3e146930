"""A second opinion on tempo: beats at known times."""

import pytest

from luthier.analysis.v1.analysis_pb2 import Beat, Beats
from luthier.common.v1.common_pb2 import TempoFact
from luthier_evaluation.second_tempo import beat_tempo

FIRST = TempoFact(tempo_bpm=100, estimator="essentia/RhythmExtractor2013")


def beats(times_s: list[float], estimator: str = "beatnet/1") -> Beats:
    return Beats(beats=[Beat(time_s=time_s) for time_s in times_s], estimator=estimator, confidence=0.7)


def test_it_is_the_tempo_of_the_line_through_the_beats() -> None:
    found = beat_tempo(beats([0.4 + 0.48 * number for number in range(20)]), FIRST)  # 60 / 0.48 = 125

    assert found is not None
    assert found.tempo_bpm == pytest.approx(125)
    assert found.estimator == "beatnet/1/beat-line"
    assert found.confidence == pytest.approx(0.7)


def test_a_missed_beat_counts_as_one_that_passed() -> None:
    found = beat_tempo(beats([0.5 * number for number in range(20) if number not in (7, 12)]), FIRST)

    assert found is not None
    assert found.tempo_bpm == pytest.approx(120)


@pytest.mark.parametrize(
    "found", [beats([]), beats([0, 0.5, 1.0]), beats([1.0] * 5), beats([0, 1, 2, 3, 4], "essentia/BeatTrackerDegara")]
)
def test_there_is_none_of_few_beats_or_by_the_same_library(found: Beats) -> None:
    assert beat_tempo(found, FIRST) is None
