"""Humanised notes: within their bound and bar, in order on each key, drawn by seed and part, and off by default."""

import numpy as np
import pytest

from luthier_rendering.humanise import Humanise, Played, humanised
from luthier_rendering.midi import load_song
from luthier_rendering.performance import Performance, performance
from luthier_rendering.smf import NOTE_OFF, NOTE_ON

from .midi_making import bend, control, midi_bytes, note, notes, program

LIVELY = Humanise(20.0, 20.0)
BAR_S = 2.0  # 4/4 at 120 BPM


def random_notes(count: int = 3000, keys: int = 8, seed: int = 2) -> tuple[Played, np.ndarray]:
    """Notes of a few keys, dense enough to meet each other, in a minute."""
    draw = np.random.default_rng(seed)
    starts = np.sort(np.round(draw.uniform(0, 60, count), 3))
    ends = starts + draw.uniform(0.001, 0.5, count)
    return Played(starts, ends, draw.integers(1, 128, count)), draw.integers(40, 40 + keys, count)


def bars() -> np.ndarray:
    return np.arange(0, 62, BAR_S)


def starts(played: Performance) -> list[tuple[float, int, int]]:
    return [(one.seconds, one.first, one.second) for one in played.messages if one.kind == NOTE_ON]


def test_nothing_moves_unless_it_is_asked_for() -> None:
    song = load_song(midi_bytes([*notes([60, 64, 67])]))
    assert performance(song, 0, Humanise(), 5) == performance(song, 0)


def test_notes_move_within_the_bound_and_on_average_not_at_all() -> None:
    before, keys = random_notes(keys=80)
    after = humanised(before, keys, np.array([]), Humanise(10.0, 0.0), 1, 0)
    moves = after.starts_s - before.starts_s
    assert np.abs(moves).max() <= 0.01
    assert np.std(moves) == pytest.approx(0.01 / np.sqrt(3), rel=0.1)  # uniform
    assert abs(moves.mean()) < 0.0005
    assert np.array_equal(after.velocity, before.velocity)


def test_velocities_move_within_the_bound_and_stay_velocities() -> None:
    before, keys = random_notes()
    after = humanised(before, keys, np.array([]), Humanise(0.0, 12.0), 1, 0)
    assert np.array_equal(after.starts_s, before.starts_s)
    assert np.abs(after.velocity - before.velocity).max() == 12
    assert (after.velocity.min(), after.velocity.max()) == (1, 127)


@pytest.mark.parametrize("seed", range(5))
def test_notes_of_a_key_keep_their_order_and_never_run_into_each_other(seed: int) -> None:
    before, keys = random_notes(seed=seed)
    after = humanised(before, keys, bars(), LIVELY, seed, 0)
    for key in np.unique(keys):
        mine = np.flatnonzero(keys == key)
        begun, ended = before.starts_s[mine], before.ends_s[mine]
        now, until = after.starts_s[mine], after.ends_s[mine]
        assert (np.diff(now)[np.diff(begun) > 0] > 0).all()
        assert (until > now).all()
        apart, overlapping = ended[:-1] <= begun[1:], ended[:-1] > begun[1:]
        assert (until[:-1] <= now[1:])[apart].all()
        assert (until[:-1] > now[1:])[overlapping].all()


@pytest.mark.parametrize("seed", range(5))
def test_no_note_leaves_its_bar_or_begins_before_the_song(seed: int) -> None:
    before, keys = random_notes(seed=seed)
    after = humanised(before, keys, bars(), LIVELY, seed, 0)
    assert np.array_equal(after.starts_s // BAR_S, before.starts_s // BAR_S)
    assert after.starts_s.min() >= 0


def test_bars_of_the_song_are_those_that_notes_keep_to() -> None:
    sixteenths = [event for i in range(160) for event in note(60 + i % 5, i / 4, 0.2)]
    song = load_song(midi_bytes(sixteenths))
    moved = starts(performance(song, 0, LIVELY, 3))
    plain = starts(performance(song, 0))
    assert sorted(int(s // BAR_S) for s, _, _ in moved) == sorted(int(s // BAR_S) for s, _, _ in plain)
    assert moved != plain


def test_a_note_is_not_moved_into_the_bend_before_it() -> None:
    """Each note starts where a bend is taken back: earlier it would be out of tune."""
    track = [event for i in range(60) for event in [bend(8000, i + 0.5), bend(0, i + 1), *note(60, i + 1, 0.4)]]
    played = performance(load_song(midi_bytes(track)), 0, LIVELY, 3)
    plain = performance(load_song(midi_bytes(track)), 0)
    early = [a - b for (a, *_), (b, *_) in zip(starts(played), starts(plain), strict=True)]
    assert min(early) >= 0
    assert max(early) > 0.01


def test_what_steers_the_first_note_steers_it_however_early_it_is() -> None:
    early = 0
    for seed in range(20):
        song = load_song(midi_bytes([program(0), control(10, 20, 1.5), *note(60, 1.5, 1), *note(62, 1.5, 1)]))
        messages = performance(song, 0, LIVELY, seed).messages
        first = next(one.seconds for one in messages if one.kind == NOTE_ON)
        pan = next(one.seconds for one in messages if one.first == 10)
        assert pan <= first
        early += first < 0.75
    assert early > 5


def test_drum_strokes_still_end_with_the_next_stroke_on_their_key() -> None:
    rolls = [event for i in range(100) for event in note(38, i / 8, 0.1, channel=9)]
    messages = performance(load_song(midi_bytes(rolls)), 0, LIVELY, 7).messages
    on = [one.seconds for one in messages if one.kind == NOTE_ON]
    off = [one.seconds for one in messages if one.kind == NOTE_OFF]
    assert off[:-1] == on[1:]


def test_a_parts_draws_depend_on_seed_and_part_alone() -> None:
    before, keys = random_notes(300)
    same, again = (humanised(before, keys, bars(), LIVELY, 9, 2) for _ in range(2))
    assert np.array_equal(same.starts_s, again.starts_s)
    for seed, part in ((9, 3), (10, 2), (9 + 2**32, 2)):
        assert not np.array_equal(same.starts_s, humanised(before, keys, bars(), LIVELY, seed, part).starts_s)


def test_no_note_is_moved_to_where_it_is_silent() -> None:
    song = load_song(midi_bytes([*note(60, 1, 1), control(7, 0, 1.016)]))
    for seed in range(20):
        played = performance(song, 0, Humanise(20, 0), seed)
        (start,) = (one.seconds for one in played.messages if one.kind == NOTE_ON)
        assert start < 488 / 480 * 0.5  # where the volume is 0
