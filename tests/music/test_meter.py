"""Beats of meters and lengths of bars, by hand."""

from fractions import Fraction

import pytest

from luthier_music.meter import bars_s, beat_quarters


@pytest.mark.parametrize(
    ("meter", "quarters"),
    [
        ((4, 4), 1), ((3, 4), 1), ((2, 2), 2), ((5, 4), 1), ((6, 8), 1.5), ((9, 8), 1.5), ((12, 8), 1.5),
        ((6, 16), 0.75), ((3, 8), None), ((5, 8), None), ((7, 8), None), ((6, 4), None), ((4, 8), None),
    ],
)  # fmt: skip
def test_the_beat_of_a_meter_where_it_tells_one(meter: tuple[int, int], quarters: float | None) -> None:
    assert beat_quarters(*meter) == quarters


@pytest.mark.parametrize(
    ("bars", "meter", "tempo_bpm", "seconds"),
    [
        (8, (4, 4), 120, 16),
        (1, (3, 4), 90, 2),
        (4, (6, 8), 60, 8),  # two dotted quarters in a bar
        (2, (7, 8), 140, 3),  # seven quarter notes
        (3, (2, 2), 60, 6),  # two half notes in a bar
        (16, (4, 4), 97, Fraction(16 * 4 * 60, 97)),
    ],
)
def test_bars_last_their_beats(bars: int, meter: tuple[int, int], tempo_bpm: float, seconds: Fraction | int) -> None:
    assert bars_s(bars, *meter, tempo_bpm) == float(seconds)
