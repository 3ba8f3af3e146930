"""The compiled loops give what numpy gives, bit for bit."""

from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly

from luthier_music.native import Votes, add_to_mix, highest, read_warped, to_steps

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("gain", [1.0, 0.7, 1e-9])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_steps_are_rounded_as_numpy_rounds_to_the_even_one_of_two(channels: int, gain: float) -> None:
    samples = RANDOM.uniform(-1, 1, (10_007, channels)).astype(np.float32)
    samples[:1000] = ((np.arange(1000) - 500.5) / 32768)[:, np.newaxis]  # exactly between two steps
    samples[1000:1003] = [[1.0] * channels, [-1.0] * channels, [-0.0] * channels]

    steps, highest = to_steps(samples, gain)

    levelled = samples * np.float32(gain)
    wanted = np.minimum(np.rint(levelled * np.float32(32768)), 32767)
    np.testing.assert_array_equal(steps, wanted.T.astype(np.int32))
    assert highest == np.abs(levelled).max()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_the_peak_of_what_is_no_number_is_none(bad: float) -> None:
    samples = np.full((5001, 2), 0.5, np.float32)
    samples[4990, 1] = bad
    assert not np.isfinite(to_steps(samples, 1.0)[1])
    assert not np.isfinite(add_to_mix(samples, 1.0, np.empty(0, np.float32), np.zeros_like(samples), 4096)[1])


@pytest.mark.parametrize("faded", [0, 1, 1000, 10_007])
def test_adding_to_the_mix_is_a_product_and_a_sum(faded: int) -> None:
    samples, mix = (RANDOM.normal(0, 0.1, (10_007, 2)).astype(np.float32) for _ in range(2))
    samples[4096:8192] = 0.0
    fade = np.linspace(1, 0, faded, dtype=np.float32)
    wanted = samples * np.float32(0.3)
    wanted[len(wanted) - faded :] *= fade[:, np.newaxis]
    wanted_mix = mix + wanted

    peaks = add_to_mix(samples, 0.3, fade, mix, 4096)

    np.testing.assert_array_equal(samples, wanted)
    np.testing.assert_array_equal(mix, wanted_mix)
    np.testing.assert_array_equal(peaks, [np.abs(wanted[i : i + 4096]).max() for i in (0, 4096, 8192)])
    assert peaks[1] == 0.0


def test_a_view_that_is_no_whole_array_is_refused() -> None:
    samples = np.zeros((2, 100), np.float32)
    with pytest.raises(ValueError, match="whole arrays"):
        add_to_mix(samples.T, 1.0, np.empty(0, np.float32), np.zeros((100, 2), np.float32), 10)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("samples", "fade", "mix"),
    [
        (np.zeros((100, 2)), np.ones(5, np.float32), np.zeros((100, 2))),
        (np.zeros((100, 2), np.float32), np.ones(5, np.float32), np.zeros((100, 2))),
        (np.zeros((100, 2), np.float32), np.ones(5), np.zeros((100, 2), np.float32)),
        (np.zeros((100, 2), np.float32), np.ones(10, np.float32)[::2], np.zeros((100, 2), np.float32)),
        (np.zeros((100, 1), np.float32), np.ones(5, np.float32), np.zeros((100, 1), np.float32)),
        (np.zeros((100, 2), np.float32), np.ones(5, np.float32), np.zeros((99, 2), np.float32)),
        (_read_only(np.zeros((100, 2), np.float32)), np.ones(5, np.float32), np.zeros((100, 2), np.float32)),
        (np.zeros((100, 2), np.float32), np.ones(5, np.float32), _read_only(np.zeros((100, 2), np.float32))),
    ],
)
def test_arrays_that_would_be_misread_are_refused(samples: np.ndarray, fade: np.ndarray, mix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="samples"):
        add_to_mix(samples, 1.0, fade, mix, 10)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 0.25])
def test_the_highest_sample_is_by_its_amount(bad: float) -> None:
    samples = RANDOM.uniform(-0.9, 0.9, (2, 5001)).astype(np.float32)
    assert highest(samples[:, ::2]) == np.abs(samples[:, ::2]).max()
    samples[1, 17] = bad
    np.testing.assert_equal(highest(samples), np.abs(samples).max())
    assert highest(samples[:, :0]) == 0.0


@pytest.mark.parametrize("frames", [1, 5, 30, 5000])
@pytest.mark.parametrize("up", [1, 2, 4])
def test_samples_are_read_at_other_moments_as_scipy_and_numpy_read_them(up: int, frames: int) -> None:
    """All of the signal, with its ends and what lies behind, forwards, twice as fast and at a stand."""
    played = RANDOM.normal(0, 0.3, (frames, 2)).astype(np.float32)
    reach = 10 if up > 1 else 0
    impulse = np.zeros(2 * reach + 1, np.float32)
    impulse[reach] = 1.0
    phases = resample_poly(impulse, up, 1).reshape(-1, up).T[:, ::-1]
    fine = resample_poly(played, up, 1, axis=0)
    places = RANDOM.uniform(0, up * frames + 3, 7000)
    at = np.concatenate([[0.0, up * frames - 1, up * frames], np.arange(up * frames), np.sort(places), places])

    found = read_warped(played, phases, at)

    for side in range(2):
        wanted = np.interp(at, np.arange(len(fine)), fine[:, side]).astype(np.float32)
        np.testing.assert_array_equal(found[:, side], wanted)


@pytest.mark.parametrize(("frames", "place"), [(0, 0.0), (5, -0.5), (5, np.nan)])
def test_nowhere_is_no_place_to_read(frames: int, place: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_warped(np.zeros((frames, 2), np.float32), np.ones((1, 1), np.float32), np.array([place]))


def _votes(**changes: np.ndarray) -> Votes:
    chance = np.random.default_rng(5)
    entries = (chance.integers(3000, 90_000, 20_000) << 8 | chance.integers(0, 200, 20_000)).astype(np.uint32)
    lengths = chance.integers(0, 60, 700).astype(np.uint32)
    first = chance.integers(0, 20_000 - 60, 700).astype(np.uint32)
    asked = (chance.integers(0, 2000, 700) << 8 | chance.integers(0, 200, 700)).astype(np.uint32)
    columns = chance.integers(0, 5, 256).astype(np.uint8)
    weights = chance.integers(1, 12, 700).astype(np.uint8)
    arrays: dict[str, Any] = {
        "entries": entries,
        "first": first,
        "lengths": lengths,
        "asked": asked,
        "column_cells": columns,
    }
    return Votes(**{**arrays, "weights": weights, "width": 5, **changes})


def _each_vote(votes: Votes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run, entry and cell of all votes, by numpy."""
    lengths = votes.lengths.astype(np.int64)
    run = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    entry = votes.entries[votes.first[run] + within]
    place = entry - votes.asked[run]
    return run, entry, (place >> 12).astype(np.int64) * 5 + votes.column_cells[place & 255]


@pytest.mark.parametrize("rows", [90_000, 50_000, 0])  # with fewer than places have, those beyond are passed over
def test_counts_of_cells_are_those_of_all_votes(rows: int) -> None:
    votes = _votes()
    run, _, cell = _each_vote(votes)
    cells = -(-rows // 16) * 5
    inside = cell < cells
    wanted = np.bincount(cell[inside], votes.weights[run[inside]], minlength=cells)

    np.testing.assert_array_equal(votes.counts(rows), wanted)


@pytest.mark.parametrize("room", [100_000, 50, 0])
def test_votes_within_groups_are_told_in_their_order(room: int) -> None:
    votes = _votes()
    run, entry, cell = _each_vote(votes)
    groups = (np.random.default_rng(6).random(30_000) < 0.2).astype(np.uint16)
    held = groups[cell] > 0
    assert held.sum() > 50

    run_of, entry_of = votes.within(groups, room)

    np.testing.assert_array_equal(run_of, run[held][:room])
    np.testing.assert_array_equal(entry_of, entry[held][:room])


def test_a_cell_that_is_full_does_not_wrap() -> None:
    one = np.zeros(1, np.uint32)
    votes = _votes(
        entries=np.full(300, 5 << 8, np.uint32),
        first=one,
        lengths=one + 300,
        asked=one,
        weights=np.full(1, 255, np.uint8),
    )
    assert 32767 - 255 < votes.counts(16).max() <= 32767


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"first": np.full(700, 19_990, np.uint32), "lengths": np.full(700, 11, np.uint32)}, "end within"),
        ({"first": np.full(700, 2**32 - 1, np.uint32), "lengths": np.full(700, 2, np.uint32)}, "end within"),
        ({"asked": np.zeros(699, np.uint32)}, "one length"),
        ({"asked": np.zeros(700, np.int64)}, "uint32"),
        ({"entries": np.zeros(40_000, np.uint32)[::2]}, "whole arrays"),
        ({"column_cells": np.full(256, 5, np.uint8)}, "below the width"),
        ({"weights": np.ones(699, np.uint8)}, "weights"),
    ],
)
def test_votes_that_leave_their_arrays_are_refused(changes: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _votes(**changes)
