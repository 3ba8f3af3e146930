"""The compiled loops give what numpy gives, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly, upfirdn

from luthier_music.native import (
    LEVELS,
    Alignments,
    Bands,
    LevelMap,
    PeakMap,
    Peaks,
    PlacedPeaks,
    Votes,
    add_to_mix,
    bit_agreements,
    decimated,
    highest,
    read_warped,
    to_steps,
    votes_in_cells,
)

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


def _votes(**changes: Any) -> Votes:
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

    counts, cells_of = votes.counts(rows)

    np.testing.assert_array_equal(counts, wanted)
    np.testing.assert_array_equal(cells_of, cell)


@pytest.mark.parametrize("cell_rows", [1, 4, 64])
def test_cells_are_as_high_as_asked_for(cell_rows: int) -> None:
    votes = _votes(cell_rows=cell_rows)
    run, entry, _ = _each_vote(votes)
    place = entry - votes.asked[run]
    cell = (place >> 8).astype(np.int64) // cell_rows * 5 + votes.column_cells[place & 255]

    counts, _ = votes.counts(90_000)

    inside = cell < len(counts)
    np.testing.assert_array_equal(counts, np.bincount(cell[inside], votes.weights[run[inside]], minlength=len(counts)))


@pytest.mark.parametrize("cell_rows", [0, 3, 1 << 17])
def test_cells_of_other_heights_are_refused(cell_rows: int) -> None:
    with pytest.raises(ValueError, match="cell_rows must be a power of two"):
        _votes(cell_rows=cell_rows)


@pytest.mark.parametrize("room", [100_000, 50, 0])
def test_votes_within_chosen_cells_are_told_in_their_order(room: int) -> None:
    votes = _votes()
    run, entry, cell = _each_vote(votes)
    chosen = np.flatnonzero(np.random.default_rng(6).random(30_000) < 0.2)
    held = np.flatnonzero(np.isin(cell, chosen))
    assert len(held) > 50

    found = votes_in_cells(votes.counts(90_000)[1], chosen, room)
    run_of, entry_of = votes.told(found)

    np.testing.assert_array_equal(found, held[:room])
    np.testing.assert_array_equal(run_of, run[held][:room])
    np.testing.assert_array_equal(entry_of, entry[held][:room])


def test_no_chosen_cells_have_no_votes() -> None:
    assert not votes_in_cells(_votes().counts(90_000)[1], np.empty(0, np.int64), 5).size


@pytest.mark.parametrize("chosen", [np.array([-1]), np.array([3, -2])])
def test_cells_below_0_cannot_be_chosen(chosen: np.ndarray) -> None:
    with pytest.raises(ValueError, match="chosen ones 0 or more"):
        votes_in_cells(np.zeros(3, np.uint32), chosen, 5)


def test_a_cell_that_is_full_does_not_wrap() -> None:
    one = np.zeros(1, np.uint32)
    votes = _votes(
        entries=np.full(300, 5 << 8, np.uint32),
        first=one,
        lengths=one + 300,
        asked=one,
        weights=np.full(1, 255, np.uint8),
    )
    assert 32767 - 255 < votes.counts(16)[0].max() <= 32767


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


ROWS = 90


def _placed(**changes: Any) -> PlacedPeaks:
    chance = np.random.default_rng(8)
    starts = np.concatenate([[0], np.cumsum(chance.integers(0, 9, 12))]).astype(np.uint32)
    arrays: dict[str, Any] = {
        "ticks": chance.integers(0, ROWS, int(starts[-1])).astype(np.uint16),
        "starts": starts,
        "weights": chance.integers(1, 6, 12).astype(np.uint8),
        "rows": ROWS,
    }
    return PlacedPeaks(**{**arrays, **changes})


def _clips() -> dict[str, np.ndarray]:
    """Three clips of 50, 0 and 30 peaks; some lie beyond the clip's length or the 12 bins and meet nothing."""
    chance = np.random.default_rng(9)
    return {
        "ticks": chance.integers(0, 70, 80).astype(np.uint16),
        "bins": chance.integers(0, 14, 80).astype(np.uint8),
        "bounds": np.array([[0, 50], [50, 50], [50, 80]]),
        "lengths": np.array([70, 5, 60], np.int32),
    }


def test_the_best_place_of_a_clip_is_that_of_all_where_most_peaks_meet() -> None:
    placed, clips = _placed(), _clips()
    met = np.zeros((3, 300), int)  # what meets at each tick of the recording from -100 on at which a clip begins
    for clip, (first, last) in enumerate(clips["bounds"]):
        for tick, bin_ in zip(clips["ticks"][first:last].tolist(), clips["bins"][first:last].tolist(), strict=True):
            if tick < clips["lengths"][clip] and bin_ < 12:
                for asked in placed.ticks[placed.starts[bin_] : placed.starts[bin_ + 1]].tolist():
                    met[clip, asked - tick + 100] += placed.weights[bin_]
    two, eight = (np.lib.stride_tricks.sliding_window_view(met, ticks, axis=1).sum(axis=2) for ticks in (2, 8))

    best = placed.best(**clips, some=np.array([2, 0, 1]))

    np.testing.assert_array_equal(best.most, two.max(axis=1)[[2, 0, 1]])
    np.testing.assert_array_equal(best.at[:2], two.argmax(axis=1)[[2, 0]] - 100)
    np.testing.assert_array_equal(best.wide, eight.max(axis=1)[[2, 0, 1]])
    np.testing.assert_array_equal(best.total, met.sum(axis=1)[[2, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rows": ROWS - 30}, "below rows"),
        ({"rows": 1 << 17}, "rows, which must be 1 to 65536"),
        ({"starts": np.zeros(12, np.uint32)}, "starts must be"),
        ({"starts": np.full(13, 1000, np.uint32)}, "lie within the ticks"),
        ({"starts": np.arange(13, dtype=np.uint32)[::-1].copy()}, "ascend"),
        ({"weights": np.ones(12, np.int64)}, "uint8"),
    ],
)
def test_placed_peaks_that_leave_their_rows_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _placed(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bounds": np.array([[0, 50], [50, 50], [50, 81]])}, "within the peaks"),
        ({"bounds": np.array([[-1, 50], [50, 50], [50, 80]])}, "within the peaks"),
        ({"bounds": np.array([[0, 50], [50, 80]])}, "clips, 2"),
        ({"lengths": np.array([70, 0, 60], np.int32)}, "lengths be 1 or more"),
        ({"lengths": np.array([70, 1 << 20, 60], np.int32)}, "lengths be at most"),
        ({"some": np.array([3])}, "of the clips"),
        ({"ticks": np.zeros(80, np.int64)}, "uint16"),
    ],
)
def test_clips_that_leave_their_peaks_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _placed().best(**{**_clips(), "some": np.array([0]), **changes})


BINS, FRAMES = 40, 300


def _peaks(seed: int, count: int = 200) -> Peaks:
    chance = np.random.default_rng(seed)
    frames = np.sort(chance.integers(0, FRAMES, count)).astype(np.uint16)
    return Peaks(
        frames,
        chance.integers(0, (BINS - 1) * 64 + 1, count).astype(np.uint16),
        (np.arange(count) % 50).astype(np.uint8),
    )


def _alignments(*places: tuple[float, float, float], last: int = 200) -> Alignments:
    offsets, stretches, shifts = np.array(places, np.float32).T
    zeros = np.zeros(len(places), np.int64)
    return Alignments(zeros, zeros + last, offsets, stretches, shifts)


def _classes(near: Peaks, held: Peaks, offset: float, stretch: float, shift: float) -> list[int]:
    """The class of each held peak, by the distance in half frames and thirds of a bin to all others."""
    rows = (near.bins.astype(int) * 3 + 32) // 64
    found = []
    for frame, bin_ in zip(held.frames, held.bins / 64, strict=True):
        at, of = offset + stretch * float(frame), bin_ + shift
        if not (0 <= of < BINS - 0.5 and 0 <= at < FRAMES - 0.5):
            found.append(255)
            continue
        late = np.abs(np.floor(2 * at + 0.5) - 2 * near.frames.astype(int))
        up = np.abs(np.floor(3 * of + 0.5) - rows)
        first, second = (up <= 1) & (late <= 1), (up <= 1) & (late <= 3)
        third = ((up <= 1) & (late <= 5)) | ((up <= 2) & (late <= 3))
        found.append(1 if first.any() else 2 if second.any() else 3 if third.any() else 0)
    return found


@pytest.mark.parametrize("place", [(0.0, 1.0, 0.0), (-20.5, 1.25, 2.5), (40.0, 0.75, -3.0)])
def test_the_class_of_a_peak_tells_how_near_another_is(place: tuple[float, float, float]) -> None:
    near, held = _peaks(1), _peaks(2)
    evidence = np.zeros((BINS, 5, 4), np.float32)

    classes = PeakMap(near, BINS, FRAMES).classes(evidence, held, _alignments(place), 0)

    wanted = _classes(near, held, *place)
    assert set(wanted) >= {0, 1, 2, 3}
    assert classes.tolist() == wanted


def test_evidence_is_summed_by_bin_rank_and_class_of_the_stronger_peaks() -> None:
    near, held, place = _peaks(1), _peaks(2), (10.0, 1.0, 1.0)
    evidence = np.random.default_rng(3).standard_normal((BINS, 5, 4)).astype(np.float32)

    (found,) = PeakMap(near, BINS, FRAMES).sums(evidence, held, _alignments(place), 20)

    bins = np.floor(held.bins / 64 + 1.0 + 0.5).astype(int)
    of = zip(bins, held.ranks.astype(int), _classes(near, held, *place), strict=True)
    assert found == pytest.approx(sum(evidence[b, rank // 10, c] for b, rank, c in of if rank < 20 and c != 255))


def test_peaks_are_aligned_with_where_they_were_moved_from() -> None:
    held = _peaks(2)
    moved = Peaks((held.frames[:150] + 3).astype(np.uint16), held.bins[:150], held.ranks[:150])
    evidence = np.broadcast_to(np.array([-0.1, 3, 1, 0.5], np.float32), (BINS, 5, 4)).copy()
    some = _alignments((0.0, 1.0, 0.0), last=150)
    frames = int(moved.frames.max()) + 1

    PeakMap(moved, BINS, frames).align(evidence, held, some, 50, np.full(1, 100, np.float32), 0.0025, 5)

    assert some.offsets[0] + some.stretches[0] * 100 - 100 == pytest.approx(3, abs=0.6)
    assert some.shifts[0] == pytest.approx(0, abs=0.26)


def test_what_an_alignment_is_moved_to_counts_what_is_told_and_more_than_all_around_it() -> None:
    held, evidence = _peaks(2), np.random.default_rng(7).uniform(-1, 1, (BINS, 5, 4)).astype(np.float32)
    near, start = PeakMap(_peaks(3), BINS, FRAMES), (-3.0, 1.03125, 0.25)
    some = _alignments(start)

    told = near.align(evidence, held, some, 50, np.zeros(1, np.float32), 0.0, 4)

    around = [(start[0] + late, start[1], start[2]) for late in range(-4, 5)]
    coarse = near.sums(evidence, held, _alignments(*around), 50)
    at = (float(some.offsets[0]), float(some.stretches[0]), float(some.shifts[0]))
    assert told[0] == pytest.approx(near.sums(evidence, held, _alignments(at), 50)[0])
    best = around[int(coarse.argmax())]
    fine = [(best[0] + late / 2, best[1], best[2] + up / 4) for late in (-1, 0, 1) for up in (-1, 0, 1)]
    assert told[0] == pytest.approx(max(near.sums(evidence, held, _alignments(*fine), 50)))


def test_peaks_and_alignments_that_do_not_fit_are_refused() -> None:
    peaks, evidence = _peaks(1), np.zeros((BINS, 5, 4), np.float32)
    near = PeakMap(peaks, BINS, FRAMES)
    place = (0.0, 1.0, 0.0)

    with pytest.raises(ValueError, match="within 40 bins and 10 frames"):
        PeakMap(peaks, BINS, 10)
    with pytest.raises(ValueError, match="bins and frames must be"):
        PeakMap(peaks, BINS, 1 << 30)
    with pytest.raises(ValueError, match="some of the 200 peaks"):
        near.sums(evidence, peaks, _alignments(place, last=201), 20)
    with pytest.raises(ValueError, match="below must be 0 to 50"):
        near.sums(evidence, peaks, _alignments(place), 51)
    with pytest.raises(ValueError, match="evidence must be"):
        near.sums(evidence[:, :4].copy(), peaks, _alignments(place), 20)
    with pytest.raises(ValueError, match="pivots must be"):
        near.align(evidence, peaks, _alignments(place), 20, np.zeros(2, np.float32), 0.0025, 5)
    with pytest.raises(ValueError, match="reach must be 0 to 16"):
        near.align(evidence, peaks, _alignments(place), 20, np.zeros(1, np.float32), 0.0025, 17)
    with pytest.raises(ValueError, match="of one length"):
        Peaks(peaks.frames, peaks.bins[1:], peaks.ranks)
    with pytest.raises(ValueError, match="uint16, uint16 and uint8"):
        Peaks(peaks.frames.astype(np.int64), peaks.bins, peaks.ranks)


SOFTER, LOUDER, MISSED = 3, 1, -4.0


def _level_map() -> LevelMap:
    chance = np.random.default_rng(8)
    levels = chance.integers(10, 60, (BINS, FRAMES)).astype(np.uint8)
    near = chance.uniform(0, 3, (BINS, LEVELS)).astype(np.float32)
    return LevelMap(levels, near, SOFTER, LOUDER, MISSED)


def _level_evidence(
    held: LevelMap, peaks: Peaks, levels: np.ndarray, place: tuple[float, float, float], gain: int
) -> np.ndarray:
    """[peaks] at one gain, by numpy."""
    offset, stretch, shift = place
    at, of = offset + stretch * peaks.frames.astype(float), peaks.bins / 64 + shift
    inside = (of >= 0) & (of < BINS - 0.5) & (at >= 0) & (at < FRAMES - 0.5)
    columns, rows = np.floor(at[inside] + 0.5).astype(int), np.floor(of[inside] + 0.5).astype(int)
    expected = np.clip(levels[inside].astype(int) + gain, 0, LEVELS - 1)
    louder = held.levels[rows, columns].astype(int) - expected
    of_inside = np.where(louder <= LOUDER, held.near[rows, expected], 0)
    evidence = np.zeros(peaks.frames.size)
    evidence[inside] = np.where(louder < -SOFTER, MISSED, of_inside)
    return evidence


@pytest.mark.parametrize("place", [(0.0, 1.0, 0.0), (-20.5, 1.25, 2.5), (40.0, 0.75, -3.0)])
def test_levels_of_peaks_count_by_whether_they_are_as_expected_softer_or_louder(
    place: tuple[float, float, float],
) -> None:
    held, peaks = _level_map(), _peaks(2)
    levels = np.random.default_rng(9).integers(0, 256, 200).astype(np.uint8)

    evidence, gain = held.evidence(peaks, levels, _alignments(place), 0, 28, 44)
    offsets = np.array([place[0], place[0] + 7.0], np.float32)
    sums = held.sums(peaks, levels, _alignments(place), 0, gain, offsets)

    np.testing.assert_allclose(evidence, _level_evidence(held, peaks, levels, place, gain), rtol=1e-6)
    moved = _level_evidence(held, peaks, levels, (place[0] + 7.0, *place[1:]), gain)
    np.testing.assert_allclose(sums, [evidence.sum(dtype=np.float64), moved.sum()], rtol=1e-5)


def test_the_gain_told_is_that_of_the_passage_that_is_there() -> None:
    held, peaks = _level_map(), _peaks(2)
    rows, columns = np.floor(peaks.bins / 64 + 0.5).astype(int), peaks.frames.astype(int)
    levels = (held.levels[rows, columns] + 9).astype(np.uint8)
    levels[columns >= FRAMES // 2] = 127  # there the recording is something else

    _, gain = held.evidence(peaks, levels, _alignments((0.0, 1.0, 0.0)), 0, 28, 44)

    assert -9 - LOUDER <= gain <= -9 + SOFTER


@pytest.mark.parametrize("level", [0, 40, 110])  # at the ends of the scale what is expected is bounded
def test_the_gain_is_the_one_of_all_at_which_a_run_of_blocks_counts_most(level: int) -> None:
    held, peaks, place = _level_map(), _peaks(2), (-20.5, 1.25, 2.5)
    levels = np.random.default_rng(9).integers(level, level + 18, 200).astype(np.uint8)
    block = np.floor(place[0] + place[1] * peaks.frames.astype(float) + 0.5).astype(int).clip(0, FRAMES - 1) // 44

    def most(gain: int) -> float:
        run = best = 0.0
        for of_block in np.bincount(block, _level_evidence(held, peaks, levels, place, gain)):
            run = max(0.0, run + of_block)
            best = max(best, run)
        return best

    _, gain = held.evidence(peaks, levels, _alignments(place), 0, 28, 44)

    assert most(gain) == pytest.approx(max(most(tried) for tried in range(-28, 29)), rel=1e-6)


def test_levels_that_do_not_fit_are_refused() -> None:
    held, peaks, levels = _level_map(), _peaks(2), np.zeros(200, np.uint8)
    some = _alignments((0.0, 1.0, 0.0))

    with pytest.raises(ValueError, match=r"near must be \[40, 128\]"):
        LevelMap(held.levels, held.near[:, :100].copy(), SOFTER, LOUDER, MISSED)
    with pytest.raises(ValueError, match="levels must be"):
        LevelMap(held.levels.astype(np.uint16), held.near, SOFTER, LOUDER, MISSED)
    with pytest.raises(ValueError, match="whole arrays"):
        LevelMap(held.levels[:, ::2], held.near, SOFTER, LOUDER, MISSED)
    with pytest.raises(ValueError, match="levels of peaks"):
        held.evidence(peaks, levels[1:], some, 0, 28, 44)
    with pytest.raises(ValueError, match="some of the 200 peaks"):
        held.evidence(peaks, levels, _alignments((0.0, 1.0, 0.0), last=201), 0, 28, 44)
    with pytest.raises(ValueError, match="most_gain"):
        held.evidence(peaks, levels, some, 0, 129, 44)
    with pytest.raises(ValueError, match="block_frames"):
        held.evidence(peaks, levels, some, 0, 28, 0)


@pytest.mark.parametrize("frames", [0, 1, 12, 10_007])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_whole_part_of_the_rate_is_by_the_filter_that_scipy_runs(channels: int, frames: int) -> None:
    samples = RANDOM.uniform(-1, 1, (frames, channels)).astype(np.float32)
    taps = RANDOM.uniform(-1, 1, 37).astype(np.float32)

    slow = decimated(samples, taps, 5)

    mean = np.concatenate([samples.mean(axis=1, dtype=np.float64), np.zeros(37)])
    wanted = upfirdn(taps[::-1], mean)[18:][: 5 * len(slow) : 5]
    assert len(slow) == round(frames / 5)
    np.testing.assert_allclose(slow, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("taps", "factor", "told"), [(36, 5, "taps"), (513, 5, "taps"), (37, 17, "factor"), (37, 0, "factor")]
)
def test_a_filter_that_does_not_fit_is_refused(taps: int, factor: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decimated(np.zeros((100, 2), np.float32), np.zeros(taps, np.float32), factor)


@pytest.mark.parametrize(("count", "first", "lags"), [(1, 0, 1), (63, 5, 9), (64, 8, 70), (1001, 3, 515), (997, 0, 8)])
def test_bits_are_counted_that_agree_at_each_lag(count: int, first: int, lags: int) -> None:
    ours, theirs = RANDOM.integers(0, 2, count), RANDOM.integers(0, 2, first + lags - 1 + count)

    agreed = bit_agreements(np.packbits(ours), count, np.packbits(theirs), first, lags)

    wanted = [np.sum(ours == theirs[first + lag : first + lag + count]) for lag in range(lags)]
    np.testing.assert_array_equal(agreed, wanted)


@pytest.mark.parametrize(
    ("count", "first", "lags"), [(0, 0, 1), (65, 0, 1), (64, 1, 1), (64, 0, 2), (64, -1, 1), (8, 0, 0)]
)
def test_bits_that_are_not_there_are_not_counted(count: int, first: int, lags: int) -> None:
    row = np.zeros(8, np.uint8)
    with pytest.raises(ValueError, match="at every lag"):
        bit_agreements(row, count, row, first, lags)


def test_no_source_asks_the_compiler_what_the_processor_can_do() -> None:
    """Zig's linker, which builds where there is no C compiler, refuses the variable behind `__builtin_cpu_supports`."""
    sources = sorted((Path(__file__).parents[2] / "services/music/native").glob("*.[ch]"))
    assert sources
    assert not [path.name for path in sources if "__builtin_cpu" in path.read_text()]


def _bands(**changes: Any) -> Bands:
    arrays: dict[str, Any] = {
        "bins": 33,
        "first": np.array([0, 4, 30, 7], np.int32),
        "starts": np.array([0, 5, 5, 8, 14], np.int32),
        "weights": RANDOM.uniform(0, 1, 14).astype(np.float32),
    }
    return Bands(**{**arrays, **changes})


@pytest.mark.parametrize("frames", [0, 1, 8, 21])
def test_powers_of_bands_are_weighed_sums_of_squared_magnitudes(frames: int) -> None:
    bands = _bands()
    spectra = (RANDOM.normal(size=(frames, 33)) + 1j * RANDOM.normal(size=(frames, 33))).astype(np.complex64)
    weights = np.zeros((4, 33))
    for band, first in enumerate(bands.first):
        own = bands.weights[bands.starts[band] : bands.starts[band + 1]]
        weights[band, first : first + len(own)] = own
    out = np.full((4, frames + 3), -1, np.float32)

    bands.powers(spectra, out[:, 1 : frames + 1])

    np.testing.assert_allclose(
        out[:, 1 : frames + 1], weights @ (np.abs(spectra.astype(np.complex128)) ** 2).T, rtol=1e-5
    )
    assert (out[:, [0, -2, -1]] == -1).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"first": np.array([0, 4, 31, 7], np.int32)}, "within the 33 bins"),
        ({"first": np.array([0, 4, -1, 7], np.int32)}, "within the 33 bins"),
        ({"first": np.zeros(3, np.int32)}, "starts must be"),
        ({"starts": np.array([0, 5, 5, 8, 13], np.int32)}, "starts must be"),
        ({"starts": np.array([0, 5, 4, 8, 14], np.int32)}, "ascend"),
        ({"weights": np.zeros(14)}, "float32"),
    ],
)
def test_bands_that_leave_their_spectrum_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _bands(**changes)


def test_spectra_that_do_not_fit_the_bands_are_refused() -> None:
    spectra, out = np.zeros((5, 33), np.complex64), np.zeros((4, 5), np.float32)

    with pytest.raises(ValueError, match="spectra must be"):
        _bands().powers(spectra[:, :32].copy(), out)
    with pytest.raises(ValueError, match="complex64"):
        _bands().powers(spectra.astype(np.complex128), out)
    with pytest.raises(ValueError, match="out must be"):
        _bands().powers(spectra, out[:, :4])
    with pytest.raises(ValueError, match="rows whole"):
        _bands().powers(spectra, np.zeros((4, 10), np.float32)[:, ::2])
