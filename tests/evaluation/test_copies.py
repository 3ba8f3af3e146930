"""Copies of training clips in outputs: planted in each way, and music that holds none.

Songs are drawn and synthesised here, all with the same drum samples, so that another pitch or tempo is another
rendering and not a shifted recording. `tests/bench/copies.py` measures the rates on rendered songs.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from luthier_evaluation.copies import (
    Copy,
    Heard,
    Index,
    Landmarks,
    NoLandmarks,
    heard,
    landmarks_of,
    near_duplicates,
    neighbours,
    search,
)
from luthier_evaluation.copies.landmarks import BINS_PER_SEMITONE, LOWEST_HZ
from luthier_evaluation.copies.neighbours import Neighbours
from luthier_kit.rpc import InvalidRequest
from luthier_music.audio_rate import resampled

RATE_HZ = 22_050
SECONDS = 20.0
SONGS = 6
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Song:
    """A song by its number: the number draws key, tempo, chords, melody and timbre. `beat` draws the drums."""

    number: int
    beat: int = -1
    semitones: float = 0.0
    stretch: float = 1.0
    silent_drums: bool = False


@lru_cache
def played(song: Song) -> Audio:
    """20 s, times `stretch`, at RATE_HZ."""
    chance = np.random.default_rng(song.number)
    tempo = chance.uniform(84, 150) if song.beat < 0 else 120.0
    step_s = 60 / tempo / 2 * song.stretch  # an eighth
    key, scale = chance.integers(45, 57), np.array([0, 2, 4, 5, 7, 9, 11])
    timbre = [chance.uniform(0.3, 1) / (1 + partial) ** chance.uniform(0.6, 1.4) for partial in range(6)]
    fall = chance.uniform(1.5, 5)
    out = np.zeros(round((SECONDS * song.stretch + 3) * RATE_HZ), np.float32)

    def note(step: float, degree: int, steps: float, level: float) -> None:
        hz = 440 * 2 ** ((key + 12 * (degree // 7) + scale[degree % 7] - 69 + song.semitones) / 12)
        time_s = np.arange(round(steps * step_s * RATE_HZ)) / RATE_HZ
        tone = sum(share * np.sin(2 * np.pi * hz * (n + 1) * time_s) for n, share in enumerate(timbre))
        shape = np.minimum(time_s / 0.01, 1) * np.exp(-fall * time_s / song.stretch)
        at = round(step * step_s * RATE_HZ)
        out[at : at + len(tone)] += (level * tone * shape)[: len(out) - at]

    steps = int(SECONDS * song.stretch / step_s)
    for step in range(0, steps, 8):
        root = int(chance.integers(0, 7))
        for degree in (root, root + 2, root + 4):
            note(step, degree, 8, 0.08)
        for place in range(8):
            if chance.random() < 0.7:
                note(step + place, int(chance.integers(7, 21)), float(chance.choice([1, 2, 3])), 0.12)
    if not song.silent_drums:
        drawn = np.random.default_rng(1000 + (song.beat if song.beat >= 0 else song.number))
        pattern = drawn.random((3, 16)) < [[0.35], [0.25], [0.6]]
        for step in range(steps):
            for sample, struck in zip(drum_samples(), pattern[:, step % 16], strict=True):
                if struck:
                    at = round(step * step_s * RATE_HZ)
                    out[at : at + len(sample)] += sample[: len(out) - at]
    return out[: round(SECONDS * song.stretch * RATE_HZ)]


@lru_cache
def drum_samples() -> tuple[Audio, Audio, Audio]:
    """Kick, snare, hat: the same for all songs."""
    time_s = np.arange(RATE_HZ // 4) / RATE_HZ
    noise = np.random.default_rng(7).standard_normal((2, len(time_s)))
    kick = 0.3 * np.sin(2 * np.pi * 60 * time_s) * np.exp(-15 * time_s)
    snare = 0.1 * (noise[0] + np.sin(2 * np.pi * 220 * time_s)) * np.exp(-20 * time_s)
    hat = 0.05 * noise[1] * np.exp(-50 * time_s)
    return kick.astype(np.float32), snare.astype(np.float32), hat.astype(np.float32)


def marked(samples: Audio) -> Landmarks:
    return landmarks_of(samples, RATE_HZ)


def as_output(samples: Audio) -> Heard:
    return heard(samples, RATE_HZ)


@pytest.fixture(scope="module")
def trained() -> list[Landmarks]:
    return [marked(played(Song(number))) for number in range(SONGS)]


@pytest.fixture(scope="module")
def index(trained: list[Landmarks]) -> Index:
    return Index.of(trained)


def mixed(copy: Audio, other: Audio, level_db: float = -6.0) -> Audio:
    """The copy at a level (RMS) beside the other."""
    frames = min(len(copy), len(other))
    gain = 10 ** (level_db / 20) * np.sqrt(np.mean(other**2) / np.mean(copy**2))
    return (gain * copy[:frames] + other[:frames]).astype(np.float32)


def only_copy(found: list[Copy]) -> Copy:
    (copy,) = [one for one in found if one.is_copy]
    return copy


def test_a_clip_itself_is_all_heard(index: Index) -> None:
    copy = only_copy(search(index, as_output(played(Song(2)))))

    assert copy.clip == 2
    assert copy.score > 0.95
    assert (copy.at_s, copy.clip_at_s) == pytest.approx((0, 0), abs=0.5)
    assert copy.at_s == pytest.approx(copy.clip_at_s, abs=0.03)
    assert copy.duration_s == pytest.approx(SECONDS, abs=1)


@pytest.mark.parametrize(
    ("semitones", "stretch"),
    [(1.0, 1.0), (-1.0, 1.0), (1.5, 1.0), (-1.5, 1.0), (0.0, 0.97), (0.0, 1.03), (0.0, 0.96), (0.0, 1.04), (1.0, 0.97)],
)
def test_another_pitch_and_tempo_are_found_and_told(index: Index, semitones: float, stretch: float) -> None:
    copy = only_copy(search(index, as_output(played(Song(3, semitones=semitones, stretch=stretch)))))

    assert copy.clip == 3
    assert copy.pitch_semitones == pytest.approx(semitones, abs=0.2)
    assert copy.stretch == pytest.approx(stretch, abs=0.006)


@pytest.mark.parametrize("number", range(SONGS))
def test_a_clip_6_db_below_other_music_is_found(index: Index, number: int) -> None:
    copy = only_copy(search(index, as_output(mixed(played(Song(number)), played(Song(100 + number))))))
    assert copy.clip == number


@pytest.mark.parametrize("stretch", [0.965, 0.99, 1.025, 1.04])
def test_a_stretched_clip_6_db_below_other_music_is_found(index: Index, stretch: float) -> None:
    output = mixed(played(Song(2, stretch=stretch)), np.tile(played(Song(102)), 2))

    copy = only_copy(search(index, as_output(output)))

    assert copy.clip == 2
    assert copy.stretch == pytest.approx(stretch, abs=0.004)
    assert copy.at_s == pytest.approx(copy.clip_at_s * copy.stretch, abs=0.1)


@pytest.mark.parametrize("number", range(SONGS))
def test_levels_tell_a_clip_15_db_below_other_music_more_surely(index: Index, number: int) -> None:
    hidden = as_output(mixed(played(Song(number)), played(Song(100 + number)), -15.0))

    by_both, by_peaks = (search(index, heard_as)[0] for heard_as in (hidden, hidden.landmarks))

    assert (by_both.clip, by_both.is_copy) == (number, True)
    assert 1 - by_both.score < (1 - by_peaks.score) / 2


@pytest.mark.parametrize("start_s", [0.0, 7.3, 14.9])
def test_5_s_of_a_clip_are_found_with_their_place(index: Index, start_s: float) -> None:
    start = round(start_s * RATE_HZ)

    copy = only_copy(search(index, as_output(played(Song(4))[start : start + 5 * RATE_HZ])))

    assert copy.clip == 4
    assert copy.clip_at_s - copy.at_s / copy.stretch == pytest.approx(start_s, abs=0.1)


@pytest.mark.parametrize(("semitones", "stretch"), [(1.0, 0.97), (-1.0, 1.03), (-1.5, 0.97)])
def test_5_s_are_found_pitched_and_stretched(index: Index, semitones: float, stretch: float) -> None:
    samples = played(Song(4, semitones=semitones, stretch=stretch))
    copy = only_copy(search(index, as_output(samples[7 * RATE_HZ : 12 * RATE_HZ])))
    assert copy.clip == 4


@pytest.mark.parametrize("number", range(200, 208))
def test_5_s_of_other_songs_are_no_copies(index: Index, number: int) -> None:
    found = search(index, as_output(played(Song(number))[7 * RATE_HZ : 12 * RATE_HZ]))
    assert [one.clip for one in found if one.is_copy] == []


def test_a_passage_amid_other_music_is_found_with_its_place_and_length(index: Index) -> None:
    other = played(Song(100))
    passage = played(Song(1))[6 * RATE_HZ : 12 * RATE_HZ]
    output = np.concatenate([other[: 9 * RATE_HZ], passage, other[9 * RATE_HZ :]])

    copy = only_copy(search(index, as_output(output)))

    assert copy.clip == 1
    assert (copy.at_s, copy.clip_at_s) == pytest.approx((9, 6), abs=0.5)
    assert copy.duration_s == pytest.approx(6, abs=1)


@pytest.mark.parametrize("number", range(200, 208))
def test_other_songs_are_no_copies_and_their_nearest_clips_are_told(index: Index, number: int) -> None:
    found = search(index, as_output(played(Song(number))))

    assert [one.clip for one in found if one.is_copy] == []
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.clip for one in found}) == len(found) <= SONGS


@pytest.mark.parametrize("beat", [1, 2, 3])
def test_the_same_drum_pattern_with_the_same_samples_is_no_copy(beat: int) -> None:
    index = Index.of([marked(played(Song(number, beat=beat))) for number in range(300, 303)])

    found = [search(index, as_output(played(Song(number, beat=beat)))) for number in range(303, 306)]

    assert [one for output in found for one in output if one.is_copy] == []


def test_two_clips_that_hold_the_same_passage_are_both_told(trained: list[Landmarks]) -> None:
    later = marked(played(Song(0))[3 * RATE_HZ :])

    found = search(Index.of([*trained, later]), as_output(played(Song(0))[5 * RATE_HZ : 15 * RATE_HZ]))

    assert {one.clip for one in found if one.is_copy} == {0, len(trained)}


def test_another_sample_rate_and_stereo_are_the_same_music(index: Index) -> None:
    twice = np.repeat(played(Song(5)), 2)  # at 44.1 kHz, held
    copy = only_copy(search(index, heard(np.stack([twice, twice], axis=1), 2 * RATE_HZ)))
    assert (copy.clip, copy.score > 0.9) == (5, True)


def test_the_filter_for_44_1_khz_hears_what_libsoxr_lets_it_hear() -> None:
    samples = resampled(played(Song(1)), RATE_HZ, 44_100)
    own, other = landmarks_of(samples, 44_100), landmarks_of(resampled(samples, 44_100, 11_025), 11_025)

    def seen(landmarks: Landmarks) -> set[tuple[int, int]]:
        strong = landmarks.strongest(10)
        return set(zip(strong.frames.tolist(), np.rint(strong.bins).astype(int).tolist(), strict=True))

    assert len(seen(own) & seen(other)) > 0.98 * len(seen(own))


@pytest.mark.parametrize("channels", [1, 2])
def test_what_folds_below_4_6_khz_is_not_heard(channels: int) -> None:
    struck = np.tile(np.pad(np.hanning(8820), (0, 22_050 - 8820)), 10)
    seconds = np.arange(5 * 44_100) / 44_100
    tones = struck * (np.sin(2 * np.pi * 1000 * seconds) + np.sin(2 * np.pi * 8000 * seconds)) / 2

    found = landmarks_of(np.stack([tones] * channels, axis=1).astype(np.float32), 44_100)

    folded_bin = 12 * BINS_PER_SEMITONE * np.log2((11_025 - 8000) / LOWEST_HZ)
    assert found.frames.size
    assert not (np.abs(found.bins - folded_bin) < 2).any()


def test_near_duplicates_of_different_songs_are_each_told_once(trained: list[Landmarks]) -> None:
    clips = [*trained, marked(played(Song(1, semitones=1.0, silent_drums=True))), marked(played(Song(2)))]
    songs = [str(number) for number in range(SONGS)] + ["cover", "2"]  # the last is another clip of song 2

    found = list(near_duplicates(Index.of(clips), clips, songs))

    assert [(pair.first, pair.second) for pair in found] == [(1, SONGS)]
    assert found[0].found.pitch_semitones == pytest.approx(-1, abs=0.2)  # the first above the second


def test_stored_landmarks_give_the_same_index(trained: list[Landmarks], index: Index) -> None:
    again = Index.of([Landmarks.from_bytes(clip.to_bytes()) for clip in trained])

    for name, array in vars(index).items():
        assert np.array_equal(array, getattr(again, name)), name


def test_30_s_are_stored_in_less_than_100_kb() -> None:
    half_a_minute = np.concatenate([played(Song(0)), played(Song(1))])[: 30 * RATE_HZ]
    assert len(marked(half_a_minute).to_bytes()) < 100_000


def damaged(data: bytes, **changes: NDArray[np.generic]) -> bytes:
    return save({**load(data), **changes})


@pytest.mark.parametrize("kept", [0, 7, 100, 1000])
def test_cut_bytes_are_no_landmarks(trained: list[Landmarks], kept: int) -> None:
    with pytest.raises(NoLandmarks):
        Landmarks.from_bytes(trained[0].to_bytes()[:kept])


def test_landmarks_that_break_their_bounds_are_refused(trained: list[Landmarks]) -> None:
    data = trained[0].to_bytes()
    arrays = load(data)
    breaks = [
        {"version": np.array([99], np.int32)},
        {"duration_s": np.array([np.nan])},
        {"duration_s": np.array([3.0])},
        {"duration_s": np.array([20.0, 20.0])},
        {"frames": arrays["frames"][::-1].copy()},
        {"frames": arrays["frames"].astype(np.int64)},
        {"frames": arrays["frames"][1:].copy()},
        {"bins": np.full_like(arrays["bins"], 65535)},
        {"levels": np.full_like(arrays["levels"], 128)},
        {"levels": arrays["levels"][1:].copy()},
    ]
    for changes in breaks:
        with pytest.raises(NoLandmarks):
            Landmarks.from_bytes(damaged(data, **changes))


@pytest.mark.parametrize(
    ("samples", "rate_hz", "says"),
    [
        (np.zeros(RATE_HZ, np.float32), RATE_HZ, "must last 2 to 600 s: got 1.000 s"),
        (np.zeros(601 * 1000, np.float32), 1000, "got 601.000 s"),
        (np.full(5 * RATE_HZ, np.nan, np.float32), RATE_HZ, "NaN or infinity"),
        (np.full((5 * RATE_HZ, 2), np.inf, np.float32), RATE_HZ, "NaN or infinity"),
        (np.zeros((5 * RATE_HZ, 2, 2), np.float32), RATE_HZ, "shape"),
        (np.zeros(0, np.float32), RATE_HZ, "got 0.000 s"),
        (np.zeros(RATE_HZ, np.float32), 0, "sample_rate_hz must be 1000 to 768000: got 0"),
    ],
)
def test_what_is_no_audio_is_refused(samples: Audio, rate_hz: int, says: str) -> None:
    with pytest.raises(NoLandmarks, match=says):
        landmarks_of(samples, rate_hz)


def test_silence_has_no_landmarks_and_is_found_nowhere(trained: list[Landmarks], index: Index) -> None:
    silence = marked(np.zeros(10 * RATE_HZ, np.float32))

    assert silence.frames.size == 0
    assert search(index, silence) == []
    assert search(Index.of([silence]), trained[0]) == []
    assert search(Index.of([]), trained[0]) == []
    assert only_copy(search(Index.of([silence, *trained]), trained[0])).clip == 1


def test_neighbours_are_those_of_all_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_CHUNK", 7)  # so that clips lie across chunks
    chance = np.random.default_rng(0)
    clips = [chance.standard_normal((int(windows), 16)).astype(np.float32) for windows in (3, 0, 5, 1, 11, 4)]
    output = chance.standard_normal((6, 16)).astype(np.float32)

    found = Neighbours.of(clips).nearest(output, most=4)

    def cosines(clip: Audio) -> NDArray[np.float64]:
        return (clip @ output.T) / np.outer(np.linalg.norm(clip, axis=1), np.linalg.norm(output, axis=1))

    expected = {number: cosines(clip).max() for number, clip in enumerate(clips) if len(clip)}
    assert [one.clip for one in found] == sorted(expected, key=lambda number: -expected[number])[:4]
    for one in found:
        assert one.cosine == pytest.approx(expected[one.clip], abs=1e-6)
        assert cosines(clips[one.clip])[one.clip_window, one.window] == pytest.approx(one.cosine, abs=1e-6)


def test_vectors_that_do_not_fit_are_refused() -> None:
    vectors = np.ones((2, 4), np.float32)
    index = Neighbours.of([vectors])

    for output in (np.ones((2, 5), np.float32), np.ones(4, np.float32), np.full((1, 4), np.nan, np.float32)):
        with pytest.raises(InvalidRequest):
            index.nearest(output)
    with pytest.raises(InvalidRequest):
        index.nearest(vectors, most=0)
    with pytest.raises(InvalidRequest):
        Neighbours.of([vectors, np.ones((2, 5), np.float32)])
    assert Neighbours.of([]).nearest(vectors) == []
