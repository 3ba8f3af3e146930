"""Beats and downbeats against sound of which they are known, and BeatNet's front and back end against madmom's.

The network runs where the extra is installed (`uv sync --extra beatnet`).
"""

import numpy as np
import pytest

from luthier_analysis.extra import BEATNET as BEATNET_PACKAGE
from luthier_analysis.extra import identity
from luthier_analysis.facts import Beats
from luthier_analysis.features import FEATURES, beatnet
from luthier_analysis.settings import Options
from luthier_music.tempo import accuracy_1

from .conftest import needs_beatnet
from .synth import RATE_HZ, click_track, groove, sound, tone

ESSENTIA, BEATNET = Options(), Options(tempo_estimator="beatnet", beat_estimator="beatnet")
NEAR_S = 0.07  # of the F-measure of MIREX


def measured(mono: np.ndarray, options: Options) -> Beats:
    found = FEATURES["beats"](sound(mono), options)
    assert isinstance(found, Beats)
    return found


def share_near(times_s: np.ndarray, others_s: np.ndarray) -> float:
    """Share of the times that have one of the others nearby."""
    return float(np.mean(np.abs(times_s[:, None] - others_s).min(axis=1) <= NEAR_S))


@pytest.mark.parametrize("tempo_bpm", [75.0, 100.0, 133.0])
def test_beats_lie_on_the_clicks(tempo_bpm: float) -> None:
    clicks_s = np.arange(0.1, 24.8, 60 / tempo_bpm)

    found = measured(click_track(tempo_bpm, 25), ESSENTIA)

    assert share_near(np.array(found.times_s), clicks_s) == 1
    assert share_near(clicks_s, np.array(found.times_s)) > 0.9
    assert found.estimator == "essentia/BeatTrackerDegara"


def test_essentia_says_that_it_knows_no_downbeats() -> None:
    found = measured(click_track(120, 10), ESSENTIA)

    assert not any(found.downbeats)
    assert found.downbeat_estimator == ""
    assert found.note.startswith("downbeats not computed")


@pytest.mark.parametrize(
    "options", [pytest.param(ESSENTIA, id="essentia"), pytest.param(BEATNET, id="beatnet", marks=needs_beatnet)]
)
@pytest.mark.parametrize(
    "mono",
    [np.zeros(10 * RATE_HZ), 0.1 * tone(220, 20, 0, 1), tone(440, 0.5), np.full(10 * RATE_HZ, 0.3),
     0.1 * np.random.default_rng(1).standard_normal(20 * RATE_HZ)],
    ids=["silence", "drone", "half a second", "offset", "noise"],
)  # fmt: skip
def test_what_has_no_pulse_has_no_beats(mono: np.ndarray, options: Options) -> None:
    assert FEATURES["beats"](sound(mono.astype(np.float32)), options) is None


@pytest.mark.skipif(identity(BEATNET_PACKAGE) != "absent", reason="the extra 'beatnet' is installed")
def test_without_the_extra_essentias_beats_and_tempo_are_given_and_named() -> None:
    beats, tempo = measured(click_track(120, 10), BEATNET), FEATURES["tempo"](sound(click_track(120, 10)), BEATNET)

    assert beats.note == (
        "beatnet gave no beats: the extra 'beatnet' is not installed; these are essentia's, downbeats not computed"
    )
    assert tempo.note == "beatnet gave no estimate: the extra 'beatnet' is not installed; this one is essentia's"
    assert beats.estimator.startswith("essentia/")
    assert tempo.estimator.startswith("essentia/")


@needs_beatnet
@pytest.mark.parametrize("tempo_bpm", [100.0, 120.0, 140.0])
def test_a_bar_begins_on_every_fourth_beat_of_a_band_in_four(tempo_bpm: float) -> None:
    found = measured(groove(tempo_bpm, 12), BEATNET)
    grid_s = np.arange(50) * 60 / tempo_bpm  # 48 are played, and the end rings on

    times_s, first = np.array(found.times_s), np.array(found.downbeats)
    assert share_near(times_s, grid_s) == 1
    assert share_near(grid_s[:48], times_s) == 1
    assert share_near(times_s[first], grid_s[::4]) == 1
    assert share_near(grid_s[:48:4], times_s[first]) == 1
    assert found.estimator == found.downbeat_estimator == "beatnet/1.1.3"
    assert 0.5 < found.confidence <= 1


@needs_beatnet
@pytest.mark.parametrize("tempo_bpm", [100.0, 120.0, 140.0])
def test_tempo_is_that_of_the_line_through_its_beats(tempo_bpm: float) -> None:
    found = FEATURES["tempo"](sound(groove(tempo_bpm, 12)), BEATNET)

    assert accuracy_1(tempo_bpm, found.tempo_bpm)
    assert found.estimator == "beatnet/1.1.3/beat-line"


@needs_beatnet
def test_it_remembers_nothing_of_the_sound_before() -> None:
    first = measured(groove(120, 8), BEATNET)
    measured(groove(95, 8), BEATNET)

    assert measured(groove(120, 8), BEATNET) == first


@needs_beatnet
def test_level_changes_no_beat() -> None:
    loud, soft = (measured(gain * groove(120, 8), BEATNET) for gain in (1.0, 0.01))

    assert soft.times_s == loud.times_s
    assert soft.downbeats == loud.downbeats


@needs_beatnet
def test_weights_of_another_digest_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    beatnet._network.cache_clear()
    monkeypatch.setattr(beatnet, "WEIGHTS_SHA256", "0" * 64)

    assert "another SHA-256" in measured(click_track(120, 10), BEATNET).note


def activation(meter: int, tempo_bpm: float, seed: int) -> np.ndarray:
    """(400, 2): noise, and a peak on each beat, in the second column where it begins a bar."""
    likely = np.random.default_rng(seed).uniform(0.0, 0.12, (400, 2))
    for beat, frame in enumerate(np.arange(7, 400, 60 * 50 / tempo_bpm)):
        likely[int(frame), int(beat % meter == 0)] += 0.6
    return likely.astype(np.float32)


@pytest.mark.parametrize(
    ("meter", "tempo_bpm", "seed", "frames"),
    [
        (3, 93, 1, [7, 39, 71, 103, 136, 168, 200, 232, 265, 297, 329, 361, 394]),
        (4, 128, 2, [7, 30, 53, 77, 100, 124, 147, 171, 194, 217, 241, 264, 286, 311, 335, 358, 382]),
        (2, 171, 3, [7, 24, 42, 59, 77, 94, 112, 130, 147, 164, 182, 199, 217, 235, 252, 270, 289, 305, 322, 340, 357,
                     375, 392]),
    ],
)  # fmt: skip
def test_the_likeliest_beats_are_those_of_madmoms_tracker(
    meter: int, tempo_bpm: float, seed: int, frames: list[int]
) -> None:
    """Golden: DBNDownBeatTrackingProcessor(beats_per_bar=[2, 3, 4], fps=50) of madmom 0.17."""
    found, numbers = beatnet.decoded(activation(meter, tempo_bpm, seed))

    assert found.tolist() == frames
    assert numbers.tolist() == [index % meter for index in range(len(frames))]


def test_what_is_like_no_beat_has_none() -> None:
    found, numbers = beatnet.decoded(np.full((100, 2), 0.01, np.float32))

    assert (found.tolist(), numbers.tolist()) == ([], [])


def test_the_log_spectrum_is_madmoms() -> None:
    """Golden: the processors of madmom 0.17, as BeatNet chains them."""
    time = np.arange(22_050) / 22_050
    signal = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * (time > 0.5) * np.sin(2 * np.pi * 1000 * time)

    found = beatnet.log_spectra(signal.astype(np.float32))

    assert found.shape == (50, 272)
    assert int(found[10].argmax()) == int(found[40].argmax()) == 25
    assert found[10, 25] == pytest.approx(2.0216, abs=1e-4)
    assert found[24, 188] == pytest.approx(0.5737, abs=1e-4)
    assert found.sum() == pytest.approx(611.9833, abs=1e-2)
