"""Tempo: Accuracy 1 and 2 at their edges, and chance levels against simulation."""

import math
import random

import pytest

from luthier_music.tempo import GUESS_RANGE_BPM, accuracy_1, accuracy_2, chance_1, chance_2


@pytest.mark.parametrize(
    ("estimate_bpm", "first", "second"),
    [
        (120.0, True, True),
        (122.4, True, True),
        (117.6, True, True),
        (122.5, False, False),
        (117.5, False, False),
        (240.0, False, True),
        (60.0, False, True),
        (360.0, False, True),
        (40.0, False, True),
        (40.9, False, False),
        (90.0, False, False),
    ],
)
def test_accuracies_of_120_bpm(estimate_bpm: float, first: bool, second: bool) -> None:
    assert (accuracy_1(120, estimate_bpm), accuracy_2(120, estimate_bpm)) == (first, second)


@pytest.mark.parametrize("bad", [0.0, -120.0, math.nan, math.inf])
def test_a_tempo_is_a_positive_number(bad: float) -> None:
    with pytest.raises(ValueError, match="estimate tempo"):
        accuracy_1(120, bad)


@pytest.mark.parametrize("reference_bpm", [60.0, 100.0, 160.0])
def test_chance_is_what_a_guesser_reaches(reference_bpm: float) -> None:
    dice = random.Random(1)
    low, high = (math.log(edge) for edge in GUESS_RANGE_BPM)
    guesses = [math.exp(dice.uniform(low, high)) for _ in range(50_000)]

    for score, chance in ((accuracy_1, chance_1), (accuracy_2, chance_2)):
        reached = sum(score(reference_bpm, guess) for guess in guesses) / len(guesses)
        assert chance(reference_bpm) == pytest.approx(reached, abs=0.004)
