"""Self-similarity: pieces whose form is known."""

import numpy as np
import pytest

from luthier_evaluation.structure import MOST_PARTS, self_similarity
from luthier_music.audio import Samples

RATE = 22_050
CHORDS = {"A": (0, 7, 9, 5), "B": (1, 3, 10, 6)}  # semitones above C, a second each


def piece(form: str, seconds: int = 8) -> Samples:
    """[frames, 1]: parts of major triads that repeat CHORDS, `seconds` each."""
    roots = [root for part in form for root in np.resize(CHORDS[part], seconds)]
    time_s = np.arange(RATE) / RATE
    chords = [
        np.sum([np.sin(2 * np.pi * 261.63 * 2 ** ((root + step) / 12) * time_s) for step in (0, 4, 7)], axis=0)
        for root in roots
    ]
    return (0.2 * np.concatenate(chords)).astype(np.float32)[:, None]


def test_a_part_that_returns_is_as_at_first_and_unlike_the_other() -> None:
    matrix = self_similarity(piece("ABA"), RATE)

    part = 16  # of 8 s in halves of a second
    first, other, again = slice(0, part - 4), slice(part, 2 * part - 4), slice(2 * part, 3 * part - 4)
    returns = np.diag(matrix[first, again]).mean()
    differs = np.diag(matrix[first, other]).mean()
    assert returns > 0.9
    assert differs < 0.3


def test_it_is_symmetric_and_each_part_is_like_itself() -> None:
    matrix = self_similarity(piece("AB"), RATE)

    assert matrix == pytest.approx(matrix.T, abs=1e-6)
    assert np.diag(matrix) == pytest.approx(np.ones(len(matrix)), abs=1e-5)
    assert np.abs(matrix).max() <= 1 + 1e-5


def test_level_does_not_matter() -> None:
    assert self_similarity(0.01 * piece("AB"), RATE) == pytest.approx(self_similarity(piece("AB"), RATE), abs=1e-3)


def test_silence_and_length_have_bounds() -> None:
    assert not self_similarity(np.zeros((31 * RATE, 2), dtype=np.float32), RATE).any()
    assert len(self_similarity(piece("A" * 40), RATE)) <= MOST_PARTS  # 320 s
