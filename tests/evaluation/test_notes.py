"""Notes of synthesised music whose notes are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from luthier_evaluation import notes
from luthier_evaluation.notes import NoteEvent, Transcriber, key_by_notes, pitch_classes, transcriber
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from tests.evaluation.notes_sound import RATE_HZ, reference_sound

RATE = 44_100
C_MAJOR = (60, 62, 64, 65, 67, 69, 71, 72)
NOTE_S = 0.5

Sound = NDArray[np.float32]


def tone(pitch: float, seconds: float = NOTE_S, harmonics: Sequence[int] = (1, 2, 3, 4)) -> NDArray[np.float64]:
    """Harmonics that fall off as 1/k², as those of a plucked string do, with an attack of 10 ms, dying away."""
    t = np.arange(round(seconds * RATE)) / RATE
    sines = sum(np.sin(2 * np.pi * k * 440 * 2 ** ((pitch - 69) / 12) * t) / k**2 for k in harmonics)
    shaped: NDArray[np.float64] = sines * np.minimum(1, np.minimum(t / 0.01, (seconds - t) / 0.05)) * np.exp(-2 * t)
    return shaped


def sound(*parts: NDArray[np.float64], peak_dbfs: float = -6.0) -> Sound:
    """One after another, as mono samples (frames, 1)."""
    samples = np.concatenate(parts)
    return (10 ** (peak_dbfs / 20) * samples / np.abs(samples).max()).astype(np.float32)[:, None]


def played(pitches: Sequence[int], peak_dbfs: float = -6.0) -> Sound:
    return sound(*map(tone, pitches), peak_dbfs=peak_dbfs)


def heard(samples: Sound) -> list[NoteEvent]:
    return transcriber().notes(samples, RATE)


def test_a_scale_has_its_notes_at_their_times() -> None:
    found = heard(played(C_MAJOR))

    assert [note.pitch for note in found] == list(C_MAJOR)
    np.testing.assert_allclose([note.onset_s for note in found], np.arange(8) * NOTE_S, atol=0.03)
    np.testing.assert_allclose([note.duration_s for note in found], NOTE_S, atol=0.06)


def test_its_pitch_classes_are_the_scales_and_weigh_what_they_last() -> None:
    profile = pitch_classes(heard(played(C_MAJOR)))

    assert np.flatnonzero(profile).tolist() == [0, 2, 4, 5, 7, 9, 11]
    assert profile[0] == pytest.approx(2 * profile[2], rel=0.1)  # C is played twice


@pytest.mark.parametrize(
    ("pitches", "key"),
    [
        ((60, 64, 67, 72, 65, 69, 72, 67, 71, 74, 67, 60, 64, 60), "C major"),
        ((64, 67, 71, 76, 69, 72, 76, 71, 75, 78, 71, 64, 67, 64), "E minor"),
    ],
)
def test_the_key_is_that_of_the_notes(pitches: tuple[int, ...], key: str) -> None:
    fit = key_by_notes(heard(played(pitches)))

    assert fit
    assert str(fit.key) == key


def test_a_chord_has_all_its_notes() -> None:
    chord = sum((tone(pitch, 1.0) for pitch in (52, 55, 59, 64)), np.zeros(RATE))

    found = {note.pitch for note in heard(sound(chord))}

    assert found >= {52, 55, 59, 64}
    assert {pitch % 12 for pitch in found} == {4, 7, 11}


def test_a_tone_without_its_fundamental_keeps_its_pitch_class() -> None:
    found = heard(sound(tone(57, 1.0, harmonics=(2, 4, 6))))

    assert {note.pitch % 12 for note in found} == {57 % 12}
    assert {note.pitch for note in found} == {69}  # an octave up: why octaves are not to be trusted


def test_a_long_sound_does_not_drift() -> None:
    found = heard(np.tile(played((60, 67)), (20, 1)))

    starts = sorted(note.onset_s for note in found)
    np.testing.assert_allclose(starts, np.arange(40) * NOTE_S, atol=0.03)


def test_the_notes_are_those_that_the_package_hears() -> None:
    """All 93, by onset and pitch; the gate may cut a note a little shorter."""
    published = json.loads((Path(__file__).parent / "basic_pitch_reference.json").read_text())

    found = transcriber().notes(reference_sound()[:, None], RATE_HZ)

    left = [tuple(note) for note in published]
    for note in found:
        same = [
            one
            for one in left
            if one[2] == note.pitch and abs(one[0] - note.onset_s) < 0.03 and abs(one[1] - note.end_s) < 0.1
        ]
        assert same, note
        left.remove(same[0])
    assert not left


def test_stereo_is_heard_as_the_mean_of_its_channels() -> None:
    mono = played(C_MAJOR)

    assert heard(np.repeat(mono, 2, axis=1)) == heard(mono)


@pytest.mark.parametrize("peak_dbfs", [-30.0, -3.0])
def test_level_does_not_matter_above_the_gate(peak_dbfs: float) -> None:
    assert [note.pitch for note in heard(played(C_MAJOR, peak_dbfs))] == list(C_MAJOR)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((RATE * 3, 1), np.float32),
        np.zeros((0, 1), np.float32),
        np.zeros((10, 2), np.float32),
        played(C_MAJOR, -80.0),
        played(C_MAJOR, -58.0),  # its peaks are above the gate, its frames are not
    ],
)
def test_silence_has_no_notes(samples: Sound) -> None:
    assert heard(samples) == []


def test_what_is_far_below_the_music_has_no_notes() -> None:
    faint = sound(*map(tone, C_MAJOR), peak_dbfs=-57.0)

    found = heard(np.concatenate([played((60, 64, 67, 60), -1.0), faint]))

    assert [note.pitch for note in found] == [60, 64, 67, 60]


@pytest.mark.parametrize(
    "samples", [np.full((RATE, 1), np.inf, np.float32), np.zeros((RATE, 3), np.float32), np.zeros(RATE, np.float32)]
)
def test_samples_that_are_none_are_refused(samples: Sound) -> None:
    with pytest.raises(InvalidRequest):
        heard(samples)


def test_the_outputs_are_those_that_their_names_say() -> None:
    """By shape alone notes and onsets cannot be told apart: onsets are short."""
    session = onnxruntime.InferenceSession(notes._model(), providers=["CPUExecutionProvider"])
    window = np.zeros((1, notes.WINDOW_SAMPLES, 1), np.float32)
    held = tone(60, 1.5)[:: RATE // notes.SAMPLE_RATE_HZ]
    window[0, 5000 : 5000 + held.size, 0] = held

    sounding, onsets = session.run([notes.NOTES_OUTPUT, notes.ONSETS_OUTPUT], {notes.INPUT: window})

    assert (sounding[0, :, 60 - notes.LOWEST_PITCH] > 0.5).sum() > 90  # of 129 frames
    assert 0 < (onsets[0, :, 60 - notes.LOWEST_PITCH] > 0.5).sum() < 15


def test_another_model_file_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MODEL_FILE", "basic_pitch/constants.py")

    with pytest.raises(FailedPrecondition, match="another file") as refused:
        Transcriber()

    assert refused.value.reason == "WEIGHTS_INVALID"


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "PACKAGE", "basic-pitch-that-is-absent")

    with pytest.raises(FailedPrecondition) as refused:
        Transcriber()

    assert refused.value.reason == "WEIGHTS_ABSENT"
