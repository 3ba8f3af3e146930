"""What is written in the file is heard: drums, controllers, bends, program changes, through the packaged SoundFont."""

import random
from pathlib import Path

import mido
import numpy as np
import pytest

from luthier_rendering import smf
from luthier_rendering.backends.base import BackendConfig, BackendError
from luthier_rendering.backends.soundfont import SoundFontBackend, open_backend
from luthier_rendering.midi import load_song
from luthier_rendering.performance import performance

from .midi_making import BEAT_S, bend, control, midi_bytes, note, notes, program

RATE = 44_100
Track = list[mido.Message]


def played(soundfont: SoundFontBackend, track: Track, *, part: int = 0, seconds: float = 4.0) -> np.ndarray:
    """Samples [frames, 2] of one part of a one-track file."""
    samples, sound = soundfont.render(
        performance(load_song(midi_bytes(track)), part), round(seconds * RATE), random.Random(1)
    )
    assert sound.backend == "soundfont"
    assert np.isfinite(samples).all()
    return samples


def rms(samples: np.ndarray, start_s: float, end_s: float) -> float:
    return float(np.sqrt(np.mean(samples[round(start_s * RATE) : round(end_s * RATE)].astype(np.float64) ** 2)))


def pitch_hz(samples: np.ndarray, start_s: float, end_s: float, near_hz: float) -> float:
    """The strongest frequency within a third of `near_hz`."""
    stretch = samples[round(start_s * RATE) : round(end_s * RATE)].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(stretch * np.hanning(stretch.size), 8 * RATE))
    hz = np.fft.rfftfreq(8 * RATE, 1 / RATE)
    band = (hz > near_hz * 0.75) & (hz < near_hz * 1.33)
    return float(hz[band][spectrum[band].argmax()])


def flatness(samples: np.ndarray, start_s: float, end_s: float) -> float:
    """Spectral flatness, 0 (a tone) to 1 (noise)."""
    stretch = samples[round(start_s * RATE) : round(end_s * RATE)].mean(axis=1)
    power = np.abs(np.fft.rfft(stretch * np.hanning(stretch.size))) ** 2 + 1e-12
    return float(np.exp(np.log(power).mean()) / power.mean())


def test_a_note_sounds_at_its_pitch_and_in_its_time(soundfont: SoundFontBackend) -> None:
    samples = played(soundfont, [program(73), *note(69, beat=2, beats=2)])
    assert rms(samples, 0, 2 * BEAT_S - 0.01) == 0
    assert rms(samples, 1.2, 1.8) > 0.005
    assert rms(samples, 3.5, 4.0) < 1e-4
    assert pitch_hz(samples, 1.3, 1.9, 440) == pytest.approx(440, rel=0.01)


def test_drums_are_not_a_piano(soundfont: SoundFontBackend) -> None:
    snare = played(soundfont, note(38, channel=9, beats=0.25))
    piano = played(soundfont, note(38, beats=0.25))
    assert flatness(snare, 0.0, 0.2) > 20 * flatness(piano, 0.0, 0.2)


def test_drum_kits_differ_and_an_unknown_kit_is_the_standard_one(soundfont: SoundFontBackend) -> None:
    kick = note(36, channel=9)
    standard, electronic, unknown = (played(soundfont, [program(kit, channel=9), *kick]) for kit in (0, 25, 99))
    assert not np.array_equal(standard, electronic)
    assert np.array_equal(standard, unknown)


def test_the_sustain_pedal_holds_a_note(soundfont: SoundFontBackend) -> None:
    without = played(soundfont, note(60, beats=0.5))
    held = played(soundfont, [control(64, 127), *note(60, beats=0.5)])
    assert rms(held, 1.0, 2.0) > 10 * rms(without, 1.0, 2.0)


def test_lifting_the_pedal_ends_what_it_held(soundfont: SoundFontBackend) -> None:
    track = [program(19), control(64, 127), *note(60, beats=0.5), control(64, 0, beat=2), *note(30, 7, 1, velocity=1)]
    lifted = played(soundfont, track)
    assert rms(lifted, 0.5, 0.9) > 20 * rms(lifted, 2.0, 3.0)


def test_a_pedal_that_is_up_holds_nothing(soundfont: SoundFontBackend) -> None:
    pressed_later = [program(19), *note(60, beats=0.5), control(64, 127, beat=1), *note(30, 7, 1, velocity=1)]
    assert rms(played(soundfont, pressed_later), 1.0, 3.0) < 1e-3


def test_striking_a_held_key_again_ends_its_first_note(soundfont: SoundFontBackend) -> None:
    track = [control(64, 127), *note(60, 0, 0.5), *note(60, 2, 0.5), control(64, 0, beat=4)]
    sent = performance(load_song(midi_bytes(track)), 0).messages
    assert [round(s, 3) for s, kind, *_ in sent if kind == smf.NOTE_OFF] == [1.0, 2.0]


@pytest.mark.parametrize("controller", [7, 11])
def test_volume_and_expression_make_it_quieter(soundfont: SoundFontBackend, controller: int) -> None:
    organ = [program(19), control(controller, 127), *note(60, beats=4), control(controller, 40, beat=2)]
    samples = played(soundfont, organ)
    assert rms(samples, 0.3, 0.9) > 5 * rms(samples, 1.3, 1.9)


@pytest.mark.parametrize(("value", "side"), [(0, 0), (127, 1)])
def test_pan_moves_it(soundfont: SoundFontBackend, value: int, side: int) -> None:
    samples = played(soundfont, [program(19), control(10, value), *note(60, beats=4)])
    assert rms(samples[:, side], 0, 2) > 5 * rms(samples[:, 1 - side], 0, 2)


def test_a_bend_moves_the_pitch_by_two_semitones(soundfont: SoundFontBackend) -> None:
    samples = played(soundfont, [program(73), *note(69, beats=6), bend(8191, beat=3)])
    assert pitch_hz(samples, 0.3, 1.3, 440) == pytest.approx(440, rel=0.01)
    assert pitch_hz(samples, 1.7, 2.7, 494) == pytest.approx(440 * 2 ** (2 / 12), rel=0.01)


def test_the_bend_range_of_the_file_is_obeyed(soundfont: SoundFontBackend) -> None:
    twelve = [control(101, 0), control(100, 0), control(6, 12)]
    samples = played(soundfont, [*twelve, program(73), bend(8191, beat=0), *note(57, beats=6)])
    assert pitch_hz(samples, 0.5, 2.5, 440) == pytest.approx(440, rel=0.01)


def test_velocity_is_loudness(soundfont: SoundFontBackend) -> None:
    soft, loud = (played(soundfont, note(60, velocity=v, beats=2)) for v in (30, 120))
    assert rms(loud, 0, 1) > 4 * rms(soft, 0, 1)


def test_a_program_change_in_a_track_is_heard_where_it_stands(soundfont: SoundFontBackend) -> None:
    track = [program(73), *notes([69, 69]), program(19, beat=1)]
    flute, organ = (played(soundfont, track, part=part) for part in (0, 1))
    assert rms(flute, 0, 0.5) > 0.005
    assert rms(organ, 0, 0.49) == 0
    assert rms(organ, 0.5, 1.0) > 0.005
    whole = played(soundfont, [program(73), *notes([69, 69])])
    assert np.array_equal(flute[: RATE // 2], whole[: RATE // 2])


def test_the_same_performance_sounds_the_same_to_the_bit(soundfont: SoundFontBackend) -> None:
    track = [program(0), *notes([60, 64, 67])]
    first = played(soundfont, track)
    played(soundfont, [program(81), bend(5000), control(7, 20), *notes([40, 41])])
    assert np.array_equal(first, played(soundfont, track))


def test_every_program_of_general_midi_can_be_played(soundfont: SoundFontBackend) -> None:
    found = soundfont.playables()
    assert {one.program for one in found if not one.is_drum} == set(range(128))
    assert any(one.is_drum for one in found)
    assert {len(one.digest) for one in found} == {64}


def test_what_is_no_soundfont_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.sf2").write_bytes(b"RIFF" + bytes(50))
    for path in (tmp_path / "broken.sf2", tmp_path / "absent.sf2"):
        with pytest.raises(BackendError, match=path.name):
            open_backend(BackendConfig(soundfont=str(path)))


def test_stems_that_are_held_at_the_same_time_have_memory_of_their_own(soundfont: SoundFontBackend) -> None:
    low, high = (played(soundfont, [*note(key)]) for key in (48, 72))
    side, copy = high[:, 0], low.copy()
    del high  # a view of it is left
    third = played(soundfont, [*note(60)])

    assert not any(np.shares_memory(one, other) for one, other in ((low, side), (low, third), (side, third)))
    np.testing.assert_array_equal(low, copy)


def test_a_stem_is_played_as_well_into_memory_that_was_used(soundfont: SoundFontBackend) -> None:
    first = played(soundfont, [*note(60)]).copy()
    played(soundfont, [*note(72, beat=1), *note(84, beat=2)])

    np.testing.assert_array_equal(played(soundfont, [*note(60)]), first)
