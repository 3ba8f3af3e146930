"""Loudness against the test signals of EBU Tech 3341 (table 1) and the calibration of BS.1770-4."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import sosfilt

from luthier_music.loudness import gated_loudness_lufs, integrated_loudness_lufs, k_weighting, measure

RATES = (44_100, 48_000, 22_050)


def sine(level_dbfs: float, seconds: float, rate: int = 48_000, hz: float = 1000.0) -> np.ndarray:
    """A stereo sine whose peaks are at `level_dbfs`, equal in both channels [frames, 2]."""
    tone = 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.stack([tone, tone], axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("level", [-23.0, -33.0])
def test_tech_3341_cases_1_and_2_a_steady_sine_reads_its_level(level: float, rate: int) -> None:
    assert integrated_loudness_lufs(sine(level, 20.0, rate), rate) == pytest.approx(level, abs=0.1)


def test_tech_3341_case_3_the_relative_gate_leaves_quiet_parts_out() -> None:
    signal = np.concatenate([sine(-36, 10), sine(-23, 60), sine(-36, 10)])
    assert integrated_loudness_lufs(signal, 48_000) == pytest.approx(-23.0, abs=0.1)


def test_tech_3341_case_4_the_absolute_gate_leaves_silence_out() -> None:
    levels = [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)]
    signal = np.concatenate([sine(level, seconds) for level, seconds in levels])
    assert integrated_loudness_lufs(signal, 48_000) == pytest.approx(-23.0, abs=0.1)


def test_tech_3341_case_5_what_is_near_the_mean_counts() -> None:
    signal = np.concatenate([sine(-26, 20), sine(-20, 20.1), sine(-26, 20)])
    assert integrated_loudness_lufs(signal, 48_000) == pytest.approx(-23.0, abs=0.1)


def test_a_full_scale_997_hz_sine_in_one_channel_reads_minus_3_01() -> None:
    tone = sine(0.0, 20.0, hz=997.0)
    tone[:, 1] = 0.0
    assert integrated_loudness_lufs(tone, 48_000) == pytest.approx(-3.01, abs=0.02)


def test_silence_is_minus_infinity_not_nan() -> None:
    assert integrated_loudness_lufs(np.zeros((48_000, 2), np.float32), 48_000) == -np.inf
    assert integrated_loudness_lufs(np.zeros((0, 2), np.float32), 48_000) == -np.inf


def test_a_sound_shorter_than_a_block_is_measured_over_its_length() -> None:
    assert integrated_loudness_lufs(sine(-23, 0.2), 48_000) == pytest.approx(-23.0, abs=0.5)


def test_a_gain_moves_loudness_by_as_many_units() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, (44_100 * 6, 2))
    before = integrated_loudness_lufs(noise, 44_100)
    assert integrated_loudness_lufs(noise * 10 ** (6 / 20), 44_100) == pytest.approx(before + 6.0, abs=1e-6)


def test_energies_of_excerpts_join_to_the_loudness_of_the_whole() -> None:
    parts = [measure(sine(level, 10), 48_000).energies for level in (-23, -20)]
    whole = integrated_loudness_lufs(np.concatenate([sine(-23, 10), sine(-20, 10)]), 48_000)
    assert gated_loudness_lufs(np.concatenate(parts)) == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    signal = sine(-23, 2)
    signal[5000] = bad
    with pytest.raises(ValueError, match="NaN"):
        integrated_loudness_lufs(signal, 48_000)


def test_more_than_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.\.2"):
        integrated_loudness_lufs(np.zeros((48_000, 3)), 48_000)


def by_scipy(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mean squares of each full 100 ms [hops] by another implementation of the filter."""
    weighted = sosfilt(k_weighting(rate), samples.astype(np.float64), axis=0)
    edges = np.rint(np.arange(len(samples) * 10 // rate + 1) * rate / 10).astype(int)
    return np.array([np.square(weighted[a:b]).sum() / (b - a) for a, b in pairwise(edges)])


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_energies_are_those_of_another_filter(rate: int, channels: int) -> None:
    random = np.random.default_rng(rate)
    signal = random.normal(0, 0.2, (5 * rate + 77, channels)).astype(np.float32)
    signal *= np.geomspace(1, 1e-4, len(signal), dtype=np.float32)[:, np.newaxis]
    signal[rate : 3 * rate] = 0.0  # longer than the filter remembers
    signal[:, -1] *= 0.25

    measured, expected = measure(signal, rate), by_scipy(signal, rate)

    np.testing.assert_allclose(measured.energies, expected, rtol=1e-10, atol=1e-16)  # -160 dB
    assert measured.loudness_lufs == pytest.approx(gated_loudness_lufs(expected), abs=1e-10)
    assert measured.peak == np.abs(signal).max()


def test_a_silence_as_long_as_the_filter_remembers_changes_nothing_behind_it() -> None:
    burst = np.random.default_rng(2).normal(0, 0.2, (22_050, 2)).astype(np.float32)
    gap = np.zeros((3 * 44_100, 2), np.float32)

    energies = measure(np.concatenate([burst, gap, burst]), 44_100).energies

    np.testing.assert_allclose(energies[35:40], energies[:5], rtol=1e-12)
    assert (energies[10:35] == 0.0).all()


@pytest.mark.parametrize("frame", [0, 1000, 88_199])
@pytest.mark.parametrize("side", [0, 1])
def test_the_peak_is_found_on_either_side_at_either_end(frame: int, side: int) -> None:
    signal = np.zeros((88_200, 2), np.float32)
    signal[frame, side] = -0.75

    assert measure(signal, 44_100).peak == 0.75


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("frame", [0, 50_000, 88_250])
def test_what_is_no_number_is_refused_wherever_it_is(bad: float, frame: int) -> None:
    signal = np.zeros((88_300, 2), np.float32)  # the last 100 frames are of no full hop
    signal[frame, 1] = bad

    with pytest.raises(ValueError, match="NaN or infinity"):
        measure(signal, 44_100)
