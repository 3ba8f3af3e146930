"""Where songs are cut."""

import functools
import itertools

import numpy as np
import pytest

from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO, FACT_SOURCE_NOTES, FACT_SOURCE_TEMPO_MAP
from luthier_analysis.clips import facts_of, faded
from luthier_analysis.cutting import cut
from luthier_analysis.facts import MeterFound
from luthier_analysis.features.sections import structure
from luthier_analysis.jobs import CutPlan
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound
from luthier_analysis.timeline import Timeline
from luthier_music.tempo import accuracy_2

from .synth import RATE_HZ, aba, activity, chords, sound, timeline, tone

shape_of = functools.lru_cache(structure)


def spans(audio: Sound, line: Timeline | None, plan: CutPlan | None = None) -> list[tuple[float, float]]:
    return list(cut(audio, shape_of(audio), line, plan or CutPlan()).spans)


@pytest.fixture(scope="module")
def song() -> Sound:
    """Two minutes and a half: A 40 s, B 40 s, A 40 s, B 30 s; 120 BPM, bars of 2 s."""
    a, b = chords(0, "major", 20), chords(9, "minor", 40, 0.25, low=36, decay=12, partials=14)
    return sound(np.concatenate([a, b, a, b[: 30 * RATE_HZ]]))


def test_clips_start_and_end_on_bar_lines_of_a_trusted_map(song: Sound) -> None:
    for start, end in spans(song, timeline(150)):
        assert start % 2 == pytest.approx(0, abs=1e-6)
        assert end % 2 == pytest.approx(0, abs=1e-6)


def test_clips_are_near_the_wanted_length_disjoint_and_cover_the_song(song: Sound) -> None:
    found = spans(song, timeline(150))

    assert all(20 <= end - start <= 32 for start, end in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    assert sum(end - start for start, end in found) > 0.85 * 150


def test_a_clip_does_not_run_across_a_strong_section_boundary_when_it_can_stop_there(song: Sound) -> None:
    edges = {edge for span in spans(song, timeline(150), CutPlan(target_s=20, min_s=10, max_s=24)) for edge in span}

    assert {40.0, 80.0, 120.0} <= edges


def test_the_same_song_is_always_cut_the_same_way(song: Sound) -> None:
    assert spans(song, timeline(150)) == spans(song, timeline(150))


def test_a_map_that_is_not_trusted_is_not_cut_by(song: Sound) -> None:
    found = spans(song, timeline(150, tempo_bpm=97, on_grid=0.25))

    assert found
    assert found == spans(song, None)


def test_no_clip_is_mostly_silent() -> None:
    music = chords(0, "major", 20)
    audio = sound(np.concatenate([music, np.zeros(60 * RATE_HZ, np.float32), music]))

    result = cut(audio, shape_of(audio), timeline(140), CutPlan())

    assert result.spans
    assert all(audio.excerpt(*span).silent_share() < 0.5 for span in result.spans)
    assert any("mostly silent" in note for note in result.notes)


@pytest.mark.parametrize("bpm", [40, 120])
def test_a_song_of_short_strokes_alone_is_cut_as_any_other(bpm: int) -> None:
    """A side stick of 10 ms on each beat: less than 2 % of the time sounds."""
    strokes = np.zeros(90 * RATE_HZ, np.float32)
    for start in (np.arange(0, 90, 60 / bpm) * RATE_HZ).astype(int):
        strokes[start : start + 441] = 0.4 * np.random.default_rng(1).uniform(-1, 1, 441)

    result = cut(sound(strokes), shape_of(sound(strokes)), timeline(90, bpm), CutPlan())

    assert sum(end - start for start, end in result.spans) > 0.85 * 90
    assert not any("mostly silent" in note for note in result.notes)


def test_a_silent_song_has_no_clips_and_says_so() -> None:
    audio = sound(np.zeros(60 * RATE_HZ))

    result = cut(audio, shape_of(audio), None, CutPlan())

    assert result.spans == ()
    assert result.notes == ("0.00-60.00 s left out: mostly silent",)


def test_a_short_song_is_one_clip_and_says_so() -> None:
    audio = sound(chords(0, "major", 4))

    result = cut(audio, shape_of(audio), None, CutPlan())

    assert result.spans == ((0.0, 8.0),)
    assert "less than the shortest clip of 20 s" in result.notes[0]


def test_no_more_clips_than_asked_for(song: Sound) -> None:
    result = cut(song, shape_of(song), timeline(150), CutPlan(max_clips=2))

    assert len(result.spans) == 2
    assert "at most 2 wanted" in result.notes[-1]


def test_a_cut_into_sound_is_faded_and_silence_is_left_alone() -> None:
    loud = np.ones((RATE_HZ, 2), np.float32)
    soft = np.zeros((RATE_HZ, 2), np.float32)

    assert np.abs(faded(loud, RATE_HZ)[[0, -1]]).max() < 0.01
    assert faded(loud, RATE_HZ)[RATE_HZ // 2].tolist() == [1.0, 1.0]
    assert faded(soft, RATE_HZ) is soft


def test_facts_keep_reference_and_estimate_apart() -> None:
    notes = (3.0, 0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 2.5, 0.0, 1.0, 0.0, 0.7)
    line = timeline(48, weights=notes, activities=(activity("Harpsichord", "Piano", (0, 48)),))

    facts = facts_of(sound(aba()).excerpt(0, 16), line, (0, 16), Options())

    assert facts.tempo
    assert facts.estimated_tempo
    assert facts.key
    assert facts.estimated_key
    assert (facts.tempo.tempo_bpm, facts.tempo.source) == (120.0, FACT_SOURCE_TEMPO_MAP)
    assert facts.estimated_tempo.source == FACT_SOURCE_AUDIO
    assert facts.estimated_tempo.estimator == "essentia/BeatTrackerDegara/beat-line"  # the cheap one
    assert accuracy_2(120.0, facts.estimated_tempo.tempo_bpm)
    assert (str(facts.key.key), facts.key.source) == ("C major", FACT_SOURCE_NOTES)
    assert (str(facts.estimated_key.key), facts.estimated_key.source) == ("C major", FACT_SOURCE_AUDIO)
    assert [one.instrument for one in facts.instruments] == ["Harpsichord"]
    assert facts.meter == MeterFound(4, 4)
    assert facts.duration_s == pytest.approx(16)


def test_without_notes_the_audio_is_asked() -> None:
    facts = facts_of(sound(aba()).excerpt(0, 16), None, (0, 16), Options())

    assert facts.key
    assert facts.key.source == FACT_SOURCE_AUDIO
    assert facts.instruments == ()


def test_notes_that_do_not_tell_are_not_overruled_by_the_audio() -> None:
    white_keys = (1.0, 0.0, 1.0, 0.0, 1.3, 1.0, 0.0, 1.0, 0.0, 1.5, 0.0, 1.0)  # A minor, but only just
    estimated_as_c_major = sound(chords(0, "major", 8))

    facts = facts_of(estimated_as_c_major, timeline(16, weights=white_keys), (0, 16), Options())

    assert facts.estimated_key
    assert str(facts.estimated_key.key) == "C major"
    assert facts.key is None


def test_power_chords_have_no_mode() -> None:
    fifths = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    facts = facts_of(sound(chords(6, "major", 8)), timeline(16, weights=fifths), (0, 16), Options())

    assert facts.estimated_key is not None
    assert facts.key is None


def test_what_neither_notes_nor_audio_tell_is_unknown() -> None:
    drone = facts_of(sound(0.1 * tone(220, 10, 0, 1)), timeline(10, on_grid=0.25), (0, 10), Options())

    assert drone.tempo is None
    assert drone.meter is None
