"""Features against sound of which the truth is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, find_peaks, sosfilt

from luthier_analysis.facts import Beats, Descriptor, KeyFound, Loudness, Perceptual, Section, Tempo
from luthier_analysis.features import FEATURES, descriptors, sections
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound, load, read_header
from luthier_music.audio import write_audio
from luthier_music.keys import Key
from luthier_music.tempo import accuracy_1
from tests.support.flac import streamed

from .conftest import needs_beatnet
from .synth import RATE_HZ, aba, chords, click_track, groove, sound, stereo, tone

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
    assert [section.start_s for section in found] == pytest.approx([0, 16, 32], abs=0.2)
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


def energy(mono: np.ndarray) -> float:
    (found,) = [one.value for one in descriptors.measure(sound(mono.astype(np.float32))) if one.name == "energy"]
    assert 0 <= found <= 1
    return float(found)


def test_the_busier_of_two_is_more_energetic() -> None:
    assert energy(click_track(150, 20)) > energy(click_track(90, 20)) + 0.02
    assert energy(chords(0, "major", 20, 0.25)) > energy(chords(0, "major", 10, 0.5)) + 0.05


def test_the_brighter_of_two_is_more_energetic() -> None:
    band = groove(120, 8)
    coefficients = butter(4, 400, fs=RATE_HZ, output="sos")

    assert energy(band) > energy(sosfilt(coefficients, band)) + 0.05


def test_the_evener_of_two_is_more_energetic() -> None:
    band = groove(120, 8)
    swelling = band * np.repeat([0.1, 1.0], [len(band) // 2, len(band) - len(band) // 2])

    assert energy(band) > energy(swelling) + 0.1


def test_level_is_not_energy() -> None:
    assert energy(0.1 * groove(120, 8)) == pytest.approx(energy(groove(120, 8)), abs=0.03)


@pytest.mark.parametrize(
    "mono",
    [0.1 * np.random.default_rng(1).standard_normal(10 * RATE_HZ), tone(440, 0.5), tone(60, 10, 0, 1),
     click_track(180, 2)],
    ids=["noise", "half a second", "hum", "clicks"],
)  # fmt: skip
def test_energy_is_bounded(mono: np.ndarray) -> None:
    assert 0 <= energy(mono) <= 1


def test_energy_is_made_of_its_three_parts_and_of_no_two() -> None:
    parts = [
        Descriptor("onset_rate_hz", 4.0, ""), Descriptor("dynamic_range_db", 10.0, ""),
        Descriptor("spectral_centroid_hz", 500.0, ""),
    ]  # fmt: skip
    found = descriptors.energy(parts)

    assert found is not None
    assert found.value == pytest.approx(0.5)  # half of 8 per second, of 20 dB, and of the octaves from 125 Hz to 2 kHz
    for index in range(3):
        assert descriptors.energy(parts[:index] + parts[index + 1 :]) is None


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


def numbers(found: object) -> list[float]:
    """All that a feature says, as numbers: none where it says nothing."""
    match found:
        case None:
            return []
        case tuple():
            return [number for one in found for number in numbers(one)]
        case Tempo():
            return [found.tempo_bpm, found.confidence]
        case KeyFound():
            return [found.strength]
        case Loudness():
            return [found.loudness_lufs, found.peak_dbfs]
        case Section():
            return [found.start_s, found.end_s, found.boundary_strength]
        case Descriptor():
            return [found.value]
        case Beats():
            return [*found.times_s, found.confidence]
        case Perceptual():
            return numbers(found.descriptors)
    raise TypeError(found)


MATERIAL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silence": lambda time: 0 * time,
    "noise": lambda time: 0.1 * np.random.default_rng(1).standard_normal(len(time)),
    "strokes": lambda time: 0.5 * np.sin(2 * np.pi * 440 * time) * np.exp(-20 * (time % 0.5)),
    "one sample": lambda time: 1.0 * (np.arange(len(time)) == len(time) // 2),
    "square at full scale": lambda time: np.sign(np.sin(2 * np.pi * 110 * time)),
}
"""Of time in seconds, whatever the sampling rate."""


@pytest.mark.parametrize("estimator", ["essentia", pytest.param("beatnet", marks=needs_beatnet)])
@pytest.mark.parametrize("material", MATERIAL)
@pytest.mark.parametrize(
    ("duration_s", "channels", "rate_hz"), [(0.5, 1, 8_000), (0.5, 2, 96_000), (2, 2, 44_100), (7.9, 1, 22_050)]
)
def test_whatever_it_is_every_feature_answers_in_finite_numbers_or_not_at_all(
    material: str, duration_s: float, channels: int, rate_hz: int, estimator: str
) -> None:
    time = np.arange(round(duration_s * rate_hz)) / rate_hz
    heard = Sound(MATERIAL[material](time).astype(np.float32)[:, None].repeat(channels, axis=1), rate_hz)

    found = {name: feature(heard, Options(estimator, None, estimator)) for name, feature in FEATURES.items()}

    assert np.isfinite([number for one in found.values() for number in numbers(one)]).all()
    assert found["sections"][-1].end_s == pytest.approx(duration_s)
    assert all(0 <= time_s <= duration_s for time_s in (found["beats"].times_s if found["beats"] else ()))
    if material == "silence":
        assert numbers((found["tempo"], found["key"], found["loudness"], found["beats"], found["descriptors"])) == []
        assert numbers(found["perceptual"]) == []
    else:
        assert found["loudness"] is not None or material == "one sample"


@pytest.mark.parametrize("rate_hz", [8_000, 48_000, 192_000])
def test_the_sampling_rate_does_not_change_the_pitch(rate_hz: int) -> None:
    time = np.arange(5 * rate_hz) / rate_hz
    found = {one.name: one.value for one in descriptors.measure(Sound(stereo(np.sin(6283.185 * time)), rate_hz))}

    assert found["spectral_centroid_hz"] == pytest.approx(1000, rel=0.02)


@pytest.mark.parametrize("shift", [1.0, -1.0, -0.97], ids=["in phase", "antiphase", "nearly antiphase"])
def test_music_in_antiphase_has_its_key_and_tempo(shift: float) -> None:
    mono = chords(9, "minor", 5).astype(np.float32)
    wide = Sound(np.stack([mono, shift * mono], axis=1), RATE_HZ)

    assert FEATURES["key"](wide, OPTIONS).key == Key(9, "minor")
    assert accuracy_1(120, FEATURES["tempo"](wide, OPTIONS).tempo_bpm)


def test_rounding_of_channels_in_antiphase_is_no_rhythm() -> None:
    """A steady tone: the mean of the channels holds what float32 rounds, which trackers hear as 100 BPM and more."""
    steady = (0.3 * np.sin(2 * np.pi * 440 * np.arange(20 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    other = -(steady * np.float32(1.0000001))

    assert FEATURES["tempo"](Sound(np.stack([steady, other], axis=1), RATE_HZ), OPTIONS) is None


OFFSETS = {
    "both channels": np.full((10 * RATE_HZ, 2), 0.3),
    "one channel": np.stack([np.full(10 * RATE_HZ, 0.3), np.zeros(10 * RATE_HZ)], axis=1),
    "antiphase": np.stack([np.full(10 * RATE_HZ, 0.3), np.full(10 * RATE_HZ, -0.3)], axis=1),
    "mono": np.full((10 * RATE_HZ, 1), -0.9),
}


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
@pytest.mark.parametrize("name", ["key", "tempo"])
def test_an_offset_is_no_music(name: str, offset: np.ndarray) -> None:
    assert FEATURES[name](Sound(offset.astype(np.float32), RATE_HZ), OPTIONS) is None


def test_music_in_antiphase_over_an_offset_keeps_its_key() -> None:
    mono = (0.5 * chords(2, "minor", 5)).astype(np.float32)
    wide = Sound(np.stack([mono + np.float32(0.2), np.float32(0.2) - mono], axis=1), RATE_HZ)

    assert FEATURES["key"](wide, OPTIONS).key == Key(2, "minor")


def test_an_offset_changes_neither_level_nor_key() -> None:
    mono = chords(0, "major", 5)
    plain, moved = sound(0.5 * mono), sound(0.5 * mono + 0.3)

    assert moved.levels_dbfs == pytest.approx(plain.levels_dbfs, abs=1.0)
    assert FEATURES["key"](moved, OPTIONS).key == Key(0, "major")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_constant_is_silence_beside_any_music(channels: int) -> None:
    music = 0.5 * groove(120, 2)[: 2 * RATE_HZ]
    mono = np.concatenate([np.full(2 * RATE_HZ, 0.3), music + 0.3]).astype(np.float32)
    moved = Sound(np.repeat(mono[:, None], channels, axis=1), RATE_HZ)

    assert moved.levels_dbfs[:40].max() < -150
    assert moved.levels_dbfs[40:] == pytest.approx(sound(music).levels_dbfs, abs=0.1)


def test_level_of_a_sine_in_one_channel_of_two() -> None:
    left = 0.5 * tone(441, 2, 0, 1)[RATE_HZ // 10 :]  # whole periods in each frame

    found = Sound(np.stack([left, np.zeros_like(left)], axis=1), RATE_HZ).levels_dbfs

    assert found == pytest.approx(20 * np.log10(0.5 / np.sqrt(2) / np.sqrt(2)), abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_peaks_are_those_that_scipy_finds(seed: int) -> None:
    values = np.convolve(np.random.default_rng(seed).random(400), np.ones(5) / 5, "same")

    truth, _ = find_peaks(values, height=0.5, distance=16)

    assert sections.peaks_of(values, 0.5, 16) == truth.tolist()


def test_smoothing_is_that_of_scipy() -> None:
    rows = np.random.default_rng(0).random((30, 4))

    assert sections.smoothed(rows) == pytest.approx(uniform_filter1d(rows, sections.SMOOTHED_STEPS, axis=0))


@pytest.mark.parametrize("bpm", [40.0, 60.0, 120.0])
def test_clicks_are_not_silence_however_short_they_are(bpm: float) -> None:
    clicks = np.zeros(30 * RATE_HZ)
    starts = (np.arange(0.5, 29.5, 60 / bpm) * RATE_HZ).astype(int)
    for start in starts:
        clicks[start : start + 220] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(220) / RATE_HZ)  # 5 ms

    assert sound(clicks).silent_share() < 0.1
    assert sound(np.concatenate([clicks, np.zeros(30 * RATE_HZ)])).silent_share() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("rate_hz", [48_000, 96_000])
def test_what_44_1_khz_cannot_hold_is_not_measured(rate_hz: int) -> None:
    time = np.arange(2 * rate_hz) / rate_hz
    mono = Sound(stereo(np.sin(2 * np.pi * 23_000 * time).astype(np.float32)), rate_hz).mono

    assert 20 * np.log10(np.sqrt(2) * mono[4_410:-4_410].std() + 1e-12) < -80


def test_a_streamed_flac_is_measured_as_the_file_it_would_have_been(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, stereo(chords(9, "minor", 4)), RATE_HZ)
    whole = load(path)

    found = load(streamed(path))

    assert read_header(path).duration_s == whole.duration_s
    np.testing.assert_array_equal(found.samples, whole.samples)
    assert FEATURES["key"](found, OPTIONS).key == Key(9, "minor")
