"""The little harmony the songbook needs: keys, Roman numerals, chords, voicings.

Pitches are MIDI numbers (C4 = 60).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

PITCH_CLASSES = {
    "C": 0, "C#": 1, "Db": 1, "D": 2, "Eb": 3, "D#": 3, "E": 4, "F": 5, "F#": 6, "Gb": 6,
    "G": 7, "Ab": 8, "G#": 8, "A": 9, "Bb": 10, "A#": 10, "B": 11,
}  # fmt: skip
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
DEGREES = {"I": 0, "II": 1, "III": 2, "IV": 3, "V": 4, "VI": 5, "VII": 6}


@dataclass(frozen=True)
class Key:
    """A tonic name of TONICS and a mode of SCALES."""

    tonic: str
    mode: str

    def scale(self) -> tuple[int, ...]:
        """The seven pitch classes, tonic first."""
        return tuple((PITCH_CLASSES[self.tonic] + step) % 12 for step in SCALES[self.mode])

    def transposed(self, semitones: int) -> "Key":
        return Key(TONICS[(PITCH_CLASSES[self.tonic] + semitones) % 12], self.mode)

    def midi_name(self) -> str:
        """The key as a MIDI key signature spells it, e.g. "F#m"."""
        return self.tonic + ("m" if self.mode == "minor" else "")


@dataclass(frozen=True)
class Chord:
    """Root pitch class and the intervals above it in semitones."""

    root: int
    intervals: tuple[int, ...]

    def tones(self) -> tuple[int, ...]:
        return tuple((self.root + interval) % 12 for interval in self.intervals)


NUMERAL = re.compile(r"(?P<flat>b?)(?P<roman>[IViv]+)(?P<seventh>maj7|7|)")


def chord(numeral: str, key: Key) -> Chord:
    """Reads "I", "vi", "V7", "Imaj7", "bVII": upper case is major, lower case minor.

    Roots follow the key's scale. Raises ValueError for anything else.
    """
    parsed = NUMERAL.fullmatch(numeral)
    if parsed is None:
        raise ValueError(f"not a Roman numeral: {numeral!r}")
    root = (key.scale()[DEGREES[parsed["roman"].upper()]] - bool(parsed["flat"])) % 12
    triad = (0, 4, 7) if parsed["roman"].isupper() else (0, 3, 7)
    seventh = {"": (), "7": (10,), "maj7": (11,)}[parsed["seventh"]]
    return Chord(root, triad + seventh)


def bars(progression: str, key: Key) -> list[list[Chord]]:
    """One list of chords per bar: bars are separated by blanks, chords inside a bar by commas."""
    return [[chord(numeral, key) for numeral in bar.split(",")] for bar in progression.split()]


def nearest(pitch_classes: Iterable[int], target: float) -> int:
    """The pitch of one of these classes that lies closest to the target, the lower one on a tie."""
    around = (p for p in range(int(target) - 12, int(target) + 13) if p % 12 in set(pitch_classes))
    return min(around, key=lambda p: (abs(p - target), p))


def voicing(harmony: Chord, centre: int, previous: list[int]) -> list[int]:
    """A close voicing near `centre` that moves as little as it can from the previous one."""
    bottoms = [p for p in range(centre - 8, centre + 5) if p % 12 in harmony.tones()]
    options = [sorted(bottom + (tone - bottom) % 12 for tone in harmony.tones()) for bottom in bottoms]
    reference = previous or [centre] * len(harmony.intervals)
    return min(options, key=lambda option: sum(abs(a - b) for a, b in zip(option, reference, strict=False)))


def melody_scale(harmony: Chord, key: Key) -> set[int]:
    """The key's scale bent to the chord that sounds: an altered tone replaces the natural one beside it."""
    altered = set(harmony.tones()) - set(key.scale())
    raised = {tone for tone in altered if (tone - harmony.root) % 12 == 4}
    replaced = {(tone - 1) % 12 for tone in raised} | {(tone + 1) % 12 for tone in altered - raised}
    return set(key.scale()) - replaced | set(harmony.tones())
