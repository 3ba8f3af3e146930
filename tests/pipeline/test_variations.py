"""Which variations of a song there are."""

import math

import pytest

from luthier_pipeline.variations import variation_of

SONGS = [f"{number:064x}" for number in range(50)]


@pytest.mark.parametrize("song", SONGS[:5])
def test_twelve_in_a_row_are_in_twelve_keys(song: str) -> None:
    for first in (1, 13, 25):
        keys = [variation_of(song, number).transpose_semitones for number in range(first, first + 12)]
        assert sorted(keys) == list(range(-5, 7))


@pytest.mark.parametrize("song", SONGS[:5])
def test_the_songs_own_key_comes_last_among_the_first_twelve(song: str) -> None:
    assert variation_of(song, 12).transpose_semitones == 0


def test_tempo_factors_are_uniform_in_their_logarithm_within_their_bounds() -> None:
    factors = [variation_of(song, number).tempo_factor for song in SONGS for number in range(1, 41)]
    assert 0.8 <= min(factors) < 0.805
    assert 1.24 < max(factors) <= 1.25
    logs = sorted(map(math.log, factors))
    low, width = math.log(0.8), math.log(1.25 / 0.8)
    furthest = max(abs((x - low) / width - i / len(logs)) for i, x in enumerate(logs))
    assert furthest < 1.63 / math.sqrt(len(logs))  # Kolmogorov-Smirnov, 1 %


def test_a_variation_is_the_same_every_time_and_another_song_has_others() -> None:
    assert variation_of(SONGS[0], 7) == variation_of(SONGS[0], 7)
    assert len({variation_of(song, 7).SerializeToString() for song in SONGS}) == len(SONGS)
