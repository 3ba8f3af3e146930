"""Another sample rate: what it can hold stays as it is, where it is; what it cannot hold is gone."""

import numpy as np
import pytest

from luthier_music.audio import Samples
from luthier_music.audio_rate import resampled

RATES = [(48_000, 44_100), (96_000, 44_100), (88_200, 44_100), (192_000, 44_100), (44_100, 22_050), (44_100, 16_000)]


def tone(hz: float, rate_hz: int, seconds: float = 2.0) -> Samples:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def level_db(samples: Samples) -> float:
    """Over a full-scale sine, the edges left out."""
    inside = samples[len(samples) // 8 : -len(samples) // 8].astype(np.float64)
    return float(20 * np.log10(np.sqrt(2 * np.mean(inside**2)) + 1e-12))


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), RATES)
def test_what_the_rate_cannot_hold_does_not_come_back_as_another_tone(rate_hz: int, wanted_hz: int) -> None:
    for hz in (wanted_hz / 2 + 50, 23_000 / 22_050 * wanted_hz / 2, 0.48 * rate_hz):
        assert level_db(resampled(tone(hz, rate_hz), rate_hz, wanted_hz)) < -120


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [*RATES, (44_100, 48_000), (8000, 44_100), (22_050, 44_100)])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_what_the_rate_can_hold_stays_as_loud(rate_hz: int, wanted_hz: int, share: float) -> None:
    hz = share * min(rate_hz, wanted_hz) / 2

    assert level_db(resampled(tone(hz, rate_hz), rate_hz, wanted_hz)) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [*RATES, (44_100, 48_000), (8000, 44_100)])
def test_an_onset_stays_where_it_is(rate_hz: int, wanted_hz: int) -> None:
    click = np.zeros(rate_hz, np.float32)
    click[rate_hz // 4] = 1.0

    moved = resampled(click, rate_hz, wanted_hz)

    assert len(moved) == wanted_hz
    assert abs(int(np.abs(moved).argmax()) - wanted_hz / 4) <= 1


def test_each_channel_is_resampled_by_itself() -> None:
    left, right = tone(440, 48_000), tone(660, 48_000)

    both = resampled(np.stack([left, right], axis=1), 48_000, 44_100)

    np.testing.assert_array_equal(both[:, 0], resampled(left, 48_000, 44_100))
    np.testing.assert_array_equal(both[:, 1], resampled(right, 48_000, 44_100))


def test_at_the_same_rate_nothing_changes() -> None:
    samples = tone(440, 44_100)

    assert resampled(samples, 44_100, 44_100) is samples


@pytest.mark.parametrize("frames", [0, 1])
def test_the_shortest_is_survived(frames: int) -> None:
    assert resampled(np.zeros((frames, 2), np.float32), 48_000, 44_100).shape == (frames, 2)
