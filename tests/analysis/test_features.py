"""Features against sound of which the truth is known."""

import numpy as np
import pytest

from luthier_analysis.features import FEATURES, descriptors
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound
from luthier_music.keys import Key
from luthier_music.tempo import accuracy_1

from .synth import RATE_HZ, aba, chords, click_track, sound, stereo, tone

OPTIONS = Options()


@pytest.mark.parametrize("tempo_bpm", [75.0, 100.0, 133.0, 160.0, 180.0])
def test_tempo_of_a_click_track(tempo_bpm: float) -> None:
    found = FEATURES["tempo"](sound(click_track(tempo_bpm, 25)), OPTIONS)

    assert accuracy_1(tempo_bpm, found.tempo_bpm)
    assert found.estimator.startswith("essentia/RhythmExtractor2013")
    assert 0 < found.confidence <= 1


@pytest.mark.parametrize("key", [Key(0, "major"), Key(6, "major"), Key(9, "minor"), Key(3, "minor")], ids=str)
def test_key_of_a_cadence(key: Key) -> None:
    found = FEATURES["key"](sound(chords(key.tonic, key.mode, 5)), OPTIONS)

    assert found.key == key
    assert 0.5 < found.strength <= 1


def test_loudness_of_the_calibration_tone() -> None:
    time = np.arange(10 * 48_000) / 48_000
    sine = stereo(10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * time))  # EBU Tech 3341, case 1

    found = FEATURES["loudness"](Sound(sine, 48_000), OPTIONS)

    assert found.loudness_lufs == pytest.approx(-23.0, abs=0.1)
    assert found.peak_dbfs == pytest.approx(-23.0, abs=0.1)


def test_sections_of_a_song_in_three_parts() -> None:
    found = FEATURES["sections"](sound(aba()), OPTIONS)

    assert [section.label for section in found] == ["A", "B", "A"]
    assert [section.start_s for section in found] == pytest.approx([0, 16, 32], abs=1.0)
    assert found[-1].end_s == pytest.approx(48.0)


def test_one_part_is_one_section() -> None:
    assert len(FEATURES["sections"](sound(chords(0, "major", 16)), OPTIONS)) == 1


def test_a_sine_is_as_bright_as_its_frequency() -> None:
    found = {one.name: one.value for one in descriptors.measure(sound(tone(1000, 5, 0, 1)))}

    assert found["spectral_centroid_hz"] == pytest.approx(1000, rel=0.01)


def test_onset_rate_of_two_clicks_a_second() -> None:
    found = {one.name: one.value for one in descriptors.measure(sound(click_track(120, 20)))}

    assert found["onset_rate_hz"] == pytest.approx(2.0, rel=0.1)


def test_dynamic_range_of_two_levels() -> None:
    half = tone(440, 10, 0, 1)
    found = {one.name: one.value for one in descriptors.measure(sound(np.concatenate([0.5 * half, 0.05 * half])))}

    assert found["dynamic_range_db"] == pytest.approx(20.0, abs=0.5)


def test_noise_has_no_beat_to_dance_to() -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(20 * RATE_HZ)
    beat, hiss = ([one.name for one in descriptors.measure(sound(mono))] for mono in (chords(0, "major", 10), noise))

    assert "danceability" in beat
    assert "danceability" not in hiss


def test_a_drone_has_no_tempo() -> None:
    assert FEATURES["tempo"](sound(0.1 * tone(220, 20, 0, 1)), OPTIONS) is None


@pytest.mark.parametrize("name", ["tempo", "key", "loudness"])
def test_silence_has_no_music(name: str) -> None:
    assert FEATURES[name](sound(np.zeros(10 * RATE_HZ)), OPTIONS) is None


def test_silence_has_no_descriptors() -> None:
    assert descriptors.measure(sound(np.zeros(10 * RATE_HZ))) == ()


@pytest.mark.parametrize("name", FEATURES)
def test_the_shortest_audio_is_survived(name: str) -> None:
    FEATURES[name](sound(tone(440, 0.5)), OPTIONS)


@pytest.mark.parametrize("rate_hz", [8_000, 48_000, 192_000])
def test_the_sampling_rate_does_not_change_the_pitch(rate_hz: int) -> None:
    time = np.arange(5 * rate_hz) / rate_hz
    found = {one.name: one.value for one in descriptors.measure(Sound(stereo(np.sin(6283.185 * time)), rate_hz))}

    assert found["spectral_centroid_hz"] == pytest.approx(1000, rel=0.02)
