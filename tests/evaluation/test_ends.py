"""Where sound ends: signals whose end is known."""

import numpy as np
import pytest

from luthier_evaluation.ends import sounding_s
from luthier_music.audio import Samples

RATE = 44_100


def tone(seconds: float, level: float, of_s: float) -> Samples:
    """[frames, 2]: a sine of `level` on the left for `seconds`, then silence, `of_s` in all."""
    out = np.zeros((round(of_s * RATE), 2), dtype=np.float32)
    frames = round(seconds * RATE)
    out[:frames, 0] = level * np.sin(2 * np.pi * 440 * np.arange(frames) / RATE)
    return out


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("end_s", [0.5, 3.2, 9.999])
def test_the_end_of_a_tone_is_found_at_any_level(end_s: float, level: float) -> None:
    assert sounding_s(tone(end_s, level, 10.0), RATE) == pytest.approx(end_s, abs=0.011)


def test_silence_has_no_end() -> None:
    assert sounding_s(np.zeros((RATE, 2), dtype=np.float32), RATE) is None
    assert sounding_s(tone(1.0, 1e-5, 1.0), RATE) is None  # -103 dBFS: rounding of 16 bits
    assert sounding_s(np.zeros((0, 2), dtype=np.float32), RATE) is None


def test_a_decay_ends_where_it_is_60_db_down() -> None:
    # exp(-t / 0.2) falls by 60 dB in 0.2 * ln(1000) = 1.38 s; its loudest 50 ms have their mean square at 0.025 s.
    time_s = np.arange(4 * RATE) / RATE
    decay = (np.exp(-time_s / 0.2) * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)[:, None]
    assert sounding_s(decay, RATE) == pytest.approx(0.2 * np.log(1000) + 0.025, abs=0.03)


@pytest.mark.parametrize(("tail_db", "end_s"), [(-50, 10.0), (-70, 4.0)])
def test_a_tail_counts_as_sound_within_60_db(tail_db: float, end_s: float) -> None:
    sound = tone(10.0, 10 ** (tail_db / 20), 10.0)
    sound[: 4 * RATE] = tone(4.0, 1.0, 4.0)
    assert sounding_s(sound, RATE) == pytest.approx(end_s, abs=0.011)


def test_a_pause_is_no_end() -> None:
    sound = tone(8.0, 0.5, 10.0)
    sound[2 * RATE : 6 * RATE] = 0
    assert sounding_s(sound, RATE) == pytest.approx(8.0, abs=0.011)
