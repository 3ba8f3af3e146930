"""Near-duplicates: which sets of hashes are one song, and that they are found without trying every pair."""

import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

import pytest

from luthier.rendering.v1.rendering_pb2 import NoteSignature, VoiceSignature
from luthier_pipeline.near_duplicates import SAME, Pair, Sketch, candidates, near_duplicates, similarity

TraceFunction = Callable[[FrameType, str, Any], Any]


def hashes(seed: int, count: int) -> list[int]:
    return random.Random(seed).sample(range(1 << 32), count)


def song(*voices: Iterable[int], below: int | None = None, short: Iterable[int] = ()) -> Sketch:
    message = NoteSignature(voices=[VoiceSignature(hashes=sorted(voice)) for voice in voices], below=below)
    if short:
        message.voices.add(short_hashes=sorted(short))
    return Sketch.of(message)


def pairs(songs: Sequence[Sketch]) -> list[Pair]:
    return near_duplicates([one.outline for one in songs], songs.__getitem__)


LEAD, BASS, PAD, OTHER = (hashes(seed, count) for seed, count in enumerate((120, 60, 20, 120)))


def test_the_same_notes_are_one_song_and_others_another() -> None:
    assert similarity(song(LEAD, BASS), song(BASS, LEAD)) == 1.0
    assert similarity(song(LEAD, BASS), song(OTHER)) == 0.0


def test_a_song_of_which_tracks_were_dropped_is_the_same() -> None:
    assert similarity(song(LEAD, BASS, PAD), song(LEAD, BASS)) == 1.0
    assert similarity(song(BASS), song(LEAD, BASS, PAD)) == 1.0


def test_another_melody_over_the_same_accompaniment_is_another_song() -> None:
    accompaniment = hashes(9, 400)  # more than three quarters of each song
    assert similarity(song(LEAD, accompaniment), song(OTHER, accompaniment)) == 0.0


def test_similarity_is_the_share_of_the_smaller_song() -> None:
    edited = [*LEAD[:90], *hashes(5, 30)]
    assert similarity(song(LEAD, BASS), song(edited)) == pytest.approx(90 / 120)


def test_a_small_voice_may_lose_all_its_hashes_by_one_note() -> None:
    assert similarity(song(LEAD, BASS, hashes(6, 12)), song(LEAD, BASS, hashes(7, 12))) > 0.9


def test_small_voices_count_together() -> None:
    small, others = hashes(6, 60), hashes(7, 60)

    def cut(of: list[int]) -> list[list[int]]:
        return [of[at : at + 12] for at in range(0, 60, 12)]

    assert similarity(song(LEAD, *cut(small)), song(LEAD, *cut(others))) == 0.0


def test_a_phrase_that_a_long_song_has_too_is_not_that_song() -> None:
    assert similarity(song(LEAD[:12]), song(LEAD, BASS)) == pytest.approx(12 / 180)
    assert similarity(song(LEAD[:12]), song(LEAD[:14])) > SAME


def test_of_next_to_nothing_nothing_is_said() -> None:
    assert similarity(song(LEAD[:7]), song(LEAD[:7])) == 0.0
    assert similarity(song(), song()) == 0.0


def test_short_hashes_count_where_both_songs_have_some() -> None:
    little = hashes(8, 40)
    assert similarity(song(LEAD[:10], short=little), song(LEAD[:10], short=little)) == 1.0
    assert similarity(song(LEAD[:100], short=little), song(LEAD[:100], BASS)) == 1.0


def test_long_songs_are_compared_below_the_lower_bound() -> None:
    every = hashes(10, 4000)
    half, quarter = 1 << 31, 1 << 30
    one = song([number for number in every if number < half], below=half)
    other = song([number for number in every[:3000] if number < quarter], below=quarter)
    assert similarity(one, other) == 1.0
    assert similarity(other, one) == 1.0


def test_pairs_are_found_in_whatever_order() -> None:
    songs = [song(hashes(seed, 150)) for seed in range(40, 60)]
    songs[3], songs[17] = song(LEAD, BASS), song([*LEAD[:100], *hashes(3, 10)], BASS)
    [pair] = pairs(songs)
    assert (pair.first, pair.second) == (3, 17)
    assert pair.similarity == pytest.approx(160 / 170)


def test_a_large_group_is_connected() -> None:
    common = hashes(11, 200)
    songs = [song([*common[:190], *hashes(100 + seed, 10)]) for seed in range(200)]
    reached, links = {0}, [(pair.first, pair.second) for pair in pairs(songs)]
    for first, second in sorted(links):
        reached |= {second} if first in reached else set()
    assert reached == set(range(200))
    assert len(links) < 200 * 20  # and not 19,900


def test_none_among_none() -> None:
    assert pairs([]) == []
    assert pairs([song(LEAD)]) == []
    assert pairs([song(), song()]) == []


def test_the_cost_grows_with_the_songs_and_not_with_their_square() -> None:
    pool = hashes(12, 1000)  # what songs of a style have in common: each takes some of it

    def work(count: int) -> tuple[int, int]:
        """Lines of Python that run, and bytes that arrays take: what the time is made of, on any machine."""
        chance = random.Random(1)
        songs = [song([*chance.sample(pool, 30), *hashes(1000 + number, 120)]).outline for number in range(count)]
        lines = 0

        def count_line(frame: FrameType, event: str, argument: object) -> TraceFunction:
            nonlocal lines
            lines += event == "line"
            return count_line

        tracemalloc.start()
        before = sys.gettrace()
        sys.settrace(count_line)
        try:
            assert candidates(songs) == []
        finally:
            sys.settrace(before)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return lines, peak

    (few_lines, few_bytes), (many_lines, many_bytes) = work(1000), work(4000)
    assert many_lines < 6 * few_lines
    assert many_bytes < 6 * few_bytes


def test_common_hashes_alone_make_few_candidates() -> None:
    common = hashes(13, 2)
    assert candidates([song([*common, *hashes(2000 + number, 100)]).outline for number in range(300)]) == []
