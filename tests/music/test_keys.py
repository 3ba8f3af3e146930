"""Keys: names, and key finding against theory."""

import numpy as np
import pytest

from luthier_music.keys import ALL_KEYS, Key, fit_key, parse_key

# Semitones above the tonic; I IV V I and i iv V i, the chords every harmony book ends a phrase with.
CADENCES = {
    "major": [(0, 4, 7), (5, 9, 0), (7, 11, 2), (0, 4, 7)],
    "minor": [(0, 3, 7), (5, 8, 0), (7, 11, 2), (0, 3, 7)],
}


def cadence_weights(key: Key) -> list[float]:
    weights = [0.0] * 12
    for chord in CADENCES[key.mode]:
        for interval in chord:
            weights[(key.tonic + interval) % 12] += 1.0
    return weights


@pytest.mark.parametrize("key", ALL_KEYS, ids=str)
def test_a_cadence_is_in_its_key(key: Key) -> None:
    fit = fit_key(cadence_weights(key))

    assert fit is not None
    assert fit.key == key
    assert fit.sure()


def test_the_scale_may_sound_for_any_length_of_time() -> None:
    weights = cadence_weights(Key(2, "minor"))

    assert fit_key([1000 * w for w in weights]) == fit_key(weights)


@pytest.mark.parametrize("weights", [[0.0] * 12, [1.0] * 12, [1.0] + [0.0] * 11, [1.0] * 2 + [0.0] * 10])
def test_silence_noise_and_one_interval_have_no_key(weights: list[float]) -> None:
    assert fit_key(weights) is None


def test_a_whole_tone_scale_fits_no_key_well() -> None:
    fit = fit_key([1.0, 0.0] * 6)

    assert fit is not None
    assert not fit.sure()


def test_the_white_keys_alone_do_not_tell_major_from_relative_minor() -> None:
    white = np.zeros(12)
    white[[0, 2, 4, 5, 7, 9, 11]] = 1
    fit = fit_key(white.tolist())

    assert fit is not None
    assert not fit.sure()


@pytest.mark.parametrize("weights", [[1.0] * 11, [float("nan")] * 12, [-1.0] + [1.0] * 11])
def test_what_is_not_twelve_weights_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="12 finite numbers"):
        fit_key(weights)


@pytest.mark.parametrize(
    ("text", "name"),
    [("C major", "C major"), ("bb MINOR", "Bb minor"), ("Gb major", "F# major"), ("Cb major", "B major")],
)
def test_names_are_read_and_written(text: str, name: str) -> None:
    assert str(parse_key(text)) == name


@pytest.mark.parametrize("key", ALL_KEYS, ids=str)
def test_every_key_reads_its_own_name(key: Key) -> None:
    assert parse_key(str(key)) == key


@pytest.mark.parametrize("text", ["", "C", "H major", "C lydian", "C major minor", "C## major"])
def test_other_words_are_not_keys(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_key(text)
