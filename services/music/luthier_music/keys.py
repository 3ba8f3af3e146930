"""Keys: names, and finding a key from notes.

A key is a tonic pitch class (0 = C ... 11 = B) and a mode, "major" or "minor": "Bb major", "F# minor".

Finding follows Krumhansl and Schmuckler: how long each pitch class sounds is correlated with the profile of
each of the 24 keys. The score of a key is the mean correlation over three published pairs of profiles, so
that no single corpus decides alone. Sources: Krumhansl and Kessler 1982; Temperley 2007, "Music and
Probability", table 6.1 (Kostka-Payne); Albrecht and Shanahan 2013, Music Perception 31(1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["major", "minor"]
MODES: tuple[Mode, Mode] = ("major", "minor")

# One spelling per pitch class for both modes, as `luthier.common.v1.KeyFact` writes them.
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

_LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}

# Tonic first; each row one published profile.
_MAJOR_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400],
        [0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081],
    ]
)
_MINOR_PROFILES = np.array(
    [
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
        [0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330],
        [0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052],
    ]
)

NOTE_KEY_ESTIMATOR = "profile/krumhansl-temperley-albrecht"  # what a KeyFact from notes names

# Below these a reference key is unknown. A cadence leads by 0.3, a lone triad by 0.25; seven white keys of
# equal length lead by 0.09 and may as well be A minor; a whole-tone scale correlates by 0.06.
MIN_CORRELATION = 0.6
MIN_MARGIN = 0.1
MIN_PITCH_CLASSES = 3


@dataclass(frozen=True)
class Key:
    """A tonic pitch class 0..11 and a mode. `str(key)` is its name."""

    tonic: int
    mode: Mode

    def __post_init__(self) -> None:
        if not 0 <= self.tonic <= 11 or self.mode not in MODES:
            raise ValueError(f"no such key: tonic {self.tonic} (0 to 11), mode {self.mode!r} (major or minor)")

    @property
    def tonic_name(self) -> str:
        return TONICS[self.tonic]

    def __str__(self) -> str:
        return f"{self.tonic_name} {self.mode}"


def key_score(asked: Key, heard: Key) -> float:
    """How near a key is to the one asked for, 0 to 1, by MIREX's weights (Audio Key Detection): the same 1, its fifth
    above 0.5, its relative 0.3, its parallel 0.2, any other 0. A fifth below is another, as `mir_eval.key` has it.
    """
    if heard.mode == asked.mode:
        return {0: 1.0, 7: 0.5}.get((heard.tonic - asked.tonic) % 12, 0.0)
    relative = 9 if asked.mode == "major" else 3  # semitones up to it
    return {0: 0.2, relative: 0.3}.get((heard.tonic - asked.tonic) % 12, 0.0)


ALL_KEYS = tuple(Key(tonic, mode) for mode in MODES for tonic in range(12))


@dataclass(frozen=True)
class KeyFit:
    """How well the best key fits: mean correlation -1..1, and its lead over the second best key, 0..2."""

    key: Key
    correlation: float
    margin: float

    def sure(self, min_margin: float = MIN_MARGIN, min_correlation: float = MIN_CORRELATION) -> bool:
        """Whether lead and fit are large enough for the key to be a reference."""
        return self.margin >= min_margin and self.correlation >= min_correlation


def parse_pitch_class(name: str) -> int:
    """Pitch class of "C", "f#", "Bb", "Cb", "E♯" (case ignored). Raises ValueError for anything else."""
    text = name.strip()
    letter, accidental = text[:1].lower(), text[1:].lower()
    if letter not in _LETTERS or accidental not in _ACCIDENTALS:
        raise ValueError(f"not a pitch class: {name[:20]!r}")
    return (_LETTERS[letter] + _ACCIDENTALS[accidental]) % 12


def parse_key(text: str) -> Key:
    """Key of "<tonic> <mode>", as in "F# minor" (case ignored). Raises ValueError for anything else."""
    words = text.split()
    if len(words) != 2 or words[1].lower() not in MODES:
        raise ValueError(f"not a key, want '<tonic> major' or '<tonic> minor': {text[:40]!r}")
    return Key(parse_pitch_class(words[0]), "major" if words[1].lower() == "major" else "minor")


def fit_key(weights: Sequence[float]) -> KeyFit | None:
    """The key that fits best 12 pitch-class weights (index 0 = C, any unit of sounding time, >= 0).

    None where fewer than three pitch classes sound or all sound alike: then no correlation means anything.
    Raises ValueError for another length, a negative or a non-finite weight.
    """
    bins = np.asarray(weights, dtype=np.float64)
    if bins.shape != (12,) or not np.isfinite(bins).all() or (bins < 0).any():
        raise ValueError("pitch-class weights must be 12 finite numbers >= 0")
    if np.count_nonzero(bins) < MIN_PITCH_CLASSES or np.ptp(bins) == 0:
        return None
    rotated = _standard(np.stack([np.roll(bins, -tonic) for tonic in range(12)]))  # [tonic, pitch class above it]
    profiles = [_standard(profiles).mean(axis=0) for profiles in (_MAJOR_PROFILES, _MINOR_PROFILES)]
    scores = np.concatenate([rotated @ profile / 12 for profile in profiles])  # mean Pearson correlations, as ALL_KEYS
    order = np.argsort(-scores, kind="stable")
    best, second = int(order[0]), int(order[1])
    return KeyFit(ALL_KEYS[best], float(scores[best]), float(scores[best] - scores[second]))


def _standard(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row with mean 0 and standard deviation 1."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    standard: NDArray[np.float64] = centred / centred.std(axis=1, keepdims=True)
    return standard
