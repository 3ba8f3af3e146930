"""vibenet's front end against librosa, its network against its own package, and what is said where it is absent.

The network runs where the extra is installed (`uv sync --extra vibenet`).
"""

import numpy as np
import pytest

from luthier_analysis.extra import VIBENET, identity
from luthier_analysis.features import FEATURES, vibenet
from luthier_analysis.settings import Options

from .conftest import needs_vibenet
from .synth import RATE_HZ, chords, groove, sound, tone


def heard(mono: np.ndarray) -> dict[str, float]:
    found = FEATURES["perceptual"](sound(mono.astype(np.float32)), Options())
    assert found.note == ""
    assert {one.estimator for one in found.descriptors} <= {"vibenet/0.1.0"}
    return {one.name: one.value for one in found.descriptors}


@pytest.mark.skipif(identity(VIBENET) != "absent", reason="the extra 'vibenet' is installed")
def test_without_the_extra_nothing_is_computed_and_that_is_said() -> None:
    found = FEATURES["perceptual"](sound(chords(0, "major", 3)), Options())

    assert found.descriptors == ()
    assert found.note == "acousticness, instrumentalness and valence not computed: the extra 'vibenet' is not installed"


def test_the_mel_spectrogram_is_librosas() -> None:
    """Golden: vibenet 0.1.0's own front end, with librosa 0.11's mel filters."""
    time = np.arange(8_000) / 16_000
    signal = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 5_000 * time**2)

    found = vibenet.log_mel(signal.astype(np.float32))

    assert found.shape == (128, 24)
    assert found.argmax(axis=0)[[0, 12, 23]].tolist() == [18] * 3
    assert found[[18, 100, 10, 64], [0, 20, 12, 12]] == pytest.approx([20.573, -1.458, -44.709, -59.427], abs=0.01)
    assert found.mean() == pytest.approx(-48.785, abs=0.01)


@needs_vibenet
def test_the_answers_are_those_of_its_package() -> None:
    """Golden: vibenet 0.1.0's own predict, on the same samples."""
    time = np.arange(5 * 16_000) / 16_000
    signal = 0.2 * np.sign(np.sin(2 * np.pi * 110 * time)) * np.exp(-4 * (time % 0.5))

    values = vibenet._values(vibenet._session(), signal.astype(np.float32))

    assert dict(zip(vibenet.OUTPUTS, values, strict=True)) == pytest.approx(
        {"acousticness": 0.1742, "danceability": 0.6484, "energy": 0.2142, "instrumentalness": 0.8510,
         "liveness": 0.1154, "speechiness": 0.1121, "valence": 0.1403}, abs=0.001,
    )  # fmt: skip


@needs_vibenet
def test_level_changes_nothing() -> None:
    loud, soft = heard(groove(120, 8)), heard(0.01 * groove(120, 8))

    assert soft == pytest.approx(loud, abs=0.01)
    assert loud.keys() == {"acousticness", "instrumentalness", "valence"}


@needs_vibenet
@pytest.mark.parametrize("mono", [np.zeros(10 * RATE_HZ), tone(440, 0.5)], ids=["silence", "half a second"])
def test_what_is_no_music_is_not_asked_about(mono: np.ndarray) -> None:
    assert heard(mono) == {}


@needs_vibenet
def test_a_long_sound_is_heard_in_pieces() -> None:
    half = groove(120, 15)[: 30 * RATE_HZ]

    assert heard(np.concatenate([half, half])) == pytest.approx(heard(half), abs=0.02)


@needs_vibenet
def test_weights_of_another_digest_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    vibenet._session.cache_clear()
    monkeypatch.setattr(vibenet, "WEIGHTS_SHA256", "0" * 64)

    assert "another SHA-256" in FEATURES["perceptual"](sound(chords(0, "major", 3)), Options()).note
