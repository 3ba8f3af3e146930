"""Onset detection functions, onsets and beats against essentia's own, which works each out by itself."""

import essentia
import essentia.streaming as streaming
import numpy as np
import pytest

from luthier_analysis.engine import algorithms
from luthier_analysis.features.tempo import interval_bpm
from luthier_analysis.onset_functions import (
    BEAT_FRAME,
    COARSE_HOP,
    HOP,
    beat_functions,
    complex_difference,
    frame_count,
    onset_functions,
)
from luthier_analysis.rhythm import agreed_beats, beats_s, onsets_s

from .synth import RATE_HZ, aba, chords, click_track, groove, sound

NOISE = (0.1 * np.random.default_rng(1).standard_normal(20 * RATE_HZ)).astype(np.float32)
FAINT = (1e-4 * np.random.default_rng(2).standard_normal(40 * RATE_HZ)).astype(np.float32)
"""As in any recording or render: where a bin is empty, its phase is what rounding leaves, and no two programs agree."""
MUSIC = {
    name: mono + FAINT[: len(mono)]
    for name, mono in {
        "groove": groove(120, 8),
        "soft and loud parts": aba(8),
        "chords": chords(0, "major", 8),
        "late": np.concatenate([np.zeros(3 * RATE_HZ, np.float32), groove(97, 8)]),
        "clicks": click_track(133, 25),
        "noise": NOISE,
    }.items()
}
of_music = pytest.mark.parametrize("mono", MUSIC.values(), ids=MUSIC.keys())


def coarse_functions(mono: np.ndarray) -> list[np.ndarray]:
    """Complex domain difference, energy flux and mel flux as BeatTrackerMultiFeature has them made."""
    found = essentia.Pool()
    source = streaming.VectorInput(mono)
    cutter = streaming.FrameCutter(frameSize=BEAT_FRAME, hopSize=COARSE_HOP, silentFrames="noise", startFromZero=True)
    window, spectrum = streaming.Windowing(size=BEAT_FRAME, type="hann"), streaming.FFT(size=BEAT_FRAME)
    polar = streaming.CartesianToPolar()
    source.data >> cutter.signal
    cutter.frame >> window.frame
    window.frame >> spectrum.frame
    spectrum.fft >> polar.complex
    methods = ("complex", "rms", "melflux")
    for method in methods:
        detection = streaming.OnsetDetection(method=method)
        polar.magnitude >> detection.spectrum
        polar.phase >> detection.phase
        detection.onsetDetection >> (found, method)
    essentia.run(source)
    return [np.atleast_1d(found[method]) for method in methods]


def fine_functions(mono: np.ndarray) -> list[np.ndarray]:
    """Beat emphasis and information gain, likewise."""
    return [
        algorithms.OnsetDetectionGlobal(method=method, frameSize=BEAT_FRAME, hopSize=HOP)(mono)
        for method in ("beat_emphasis", "infogain")
    ]


def assert_same_shape(found: np.ndarray, truth: np.ndarray, within: float) -> None:
    """Equal but for a factor, which trackers take out; `within` is of the largest value."""
    assert len(found) == len(truth)
    assert found / found.max() == pytest.approx(truth / truth.max(), abs=within)


@of_music
def test_functions_that_beats_are_tracked_by_are_essentias(mono: np.ndarray) -> None:
    ours = beat_functions(mono)
    made = [ours.complex_difference, ours.energy_flux, ours.mel_flux, ours.beat_emphasis, ours.information_gain]

    for found, truth in zip(made, [*coarse_functions(mono), *fine_functions(mono)], strict=True):
        assert_same_shape(found, truth, within=1e-3)


@of_music
def test_one_function_alone_is_that_among_all(mono: np.ndarray) -> None:
    assert complex_difference(mono) == pytest.approx(beat_functions(mono).complex_difference, rel=1e-4)


@pytest.mark.parametrize("samples", [1, 500, 2047, 2048, 2049, 2559, 2560, 2561, 4096, 66_000])
def test_there_are_as_many_frames_as_in_essentia(samples: int) -> None:
    mono = NOISE[:samples]
    coarse, fine = coarse_functions(mono)[0], fine_functions(mono)[1]

    made = beat_functions(mono)

    assert len(made.complex_difference) == len(complex_difference(mono)) == len(coarse)
    assert len(made.information_gain) == len(made.beat_emphasis) == len(fine) == frame_count(samples, BEAT_FRAME, HOP)


def test_silence_has_no_beats_in_any_function() -> None:
    made = beat_functions(np.zeros(5 * RATE_HZ, np.float32))

    assert not made.beat_emphasis.any()
    assert not made.information_gain.any()
    onsets = onset_functions(np.zeros(9, np.float32))
    for function in (made.complex_difference, made.energy_flux, made.mel_flux, *onsets):
        assert np.isfinite(function).all()
        assert (function >= 0).all()


@of_music
def test_onsets_are_those_of_onset_rate(mono: np.ndarray) -> None:
    excerpt = sound(mono)

    assert onsets_s(excerpt).tolist() == algorithms.OnsetRate()(excerpt.mono)[0].tolist()


@of_music
def test_beats_by_one_function_are_those_of_degaras_tracker(mono: np.ndarray) -> None:
    excerpt = sound(mono)

    assert beats_s(excerpt).tolist() == algorithms.BeatTrackerDegara()(excerpt.mono).tolist()


@of_music
def test_agreed_beats_are_those_of_the_extractor(mono: np.ndarray) -> None:
    excerpt = sound(mono)
    bpm, times_s, confidence, *_ = algorithms.RhythmExtractor2013(method="multifeature")(excerpt.mono)

    found = agreed_beats(excerpt)

    assert found.times_s.tolist() == times_s.tolist()
    assert found.confidence == pytest.approx(confidence, abs=1e-4)
    assert interval_bpm(found.times_s) == pytest.approx(bpm, abs=1e-3)


def test_clicks_with_digital_silence_between_them_have_the_beats_of_the_extractor() -> None:
    excerpt = sound(click_track(133, 25))  # essentia adds noise to silent frames that is other noise than ours
    _, times_s, confidence, *_ = algorithms.RhythmExtractor2013(method="multifeature")(excerpt.mono)

    found = agreed_beats(excerpt)

    assert found.times_s == pytest.approx(times_s, abs=0.03)
    assert found.confidence == pytest.approx(confidence, abs=0.2)


def test_beats_are_the_same_whether_all_functions_were_made_before_or_not() -> None:
    alone, after = sound(MUSIC["groove"]), sound(MUSIC["groove"])
    agreed_beats(after)

    assert beats_s(after).tolist() == beats_s(alone).tolist()
