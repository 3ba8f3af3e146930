"""The songs that the experiment learns from: every tempo from 75 to 160 BPM in four genres, keys evenly drawn.

Nothing but the groove: drums, bass and chords that strike with the beat. Half of what sounds then follows from genre,
tempo and place in the bar, where melodies, fills and pads leave a small model little to learn a tempo from. Chords and
bass lines are drawn song by song, so that no two are one song to the fingerprint or near-duplicates of each other.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from luthier_pipeline.songbook.plan import SONGS, Part, SongPlan
from luthier_pipeline.songbook.theory import SCALES, TONICS, Key

TEMPI_BPM: Final = range(75, 161)  # as the paper tests: 75 to 160
BARS: Final = 8  # of a section
CHORDS: Final = {"major": ("I", "IV", "V", "vi", "ii"), "minor": ("i", "iv", "V", "VI", "VII")}
"""By mode; the first is the tonic, the third the dominant."""
SEVENTHS: Final = {"I": "Imaj7", "IV": "IVmaj7", "V": "V7", "vi": "vi7", "ii": "ii7", "i": "i7", "iv": "iv7"} | {
    "VI": "VImaj7",
    "VII": "VII7",
}
TONES: Final = "r358"  # root, third, fifth and octave, as `songbook.parts` spells a bass


@dataclass(frozen=True)
class Groove:
    """Drums of a genre, its chords (a part that strikes with the beat), its bass, and the bass's rhythm: each `x` is a
    tone of the chord, drawn song by song, the first of a bar its root."""

    drums: str
    chords: Part
    bass: Part
    rhythm: str
    sevenths: bool = False


FOUR, OFF, SWING = ("x---x---x---x---",), ("..x-..x-..x-..x-",), ("x-....x-....",)
GROOVES: Final = {
    "rock": Groove(
        "rock",
        Part("chords", 29, "Overdriven Guitar", FOUR, FOUR, 52, 84, 50, 80),
        Part("bass", 34, "Electric Bass (pick)", (), (), 36, 96),
        "x-x-x-x-x-x-x-x-",
    ),
    "jazz": Groove(
        "swing",
        Part("chords", 0, "Acoustic Grand Piano", SWING, SWING, 62, 74, 50),
        Part("bass", 32, "Acoustic Bass", (), (), 40, 92),
        "x--x--x--x--",
        sevenths=True,
    ),
    "pop": Groove(
        "pop",
        Part("chords", 0, "Acoustic Grand Piano", FOUR, FOUR, 62, 80, 54),
        Part("bass", 33, "Electric Bass (finger)", (), (), 36, 92),
        "x---x---x---x---",
    ),
    "house": Groove(
        "house",
        Part("chords", 81, "Lead 2 (sawtooth)", OFF, OFF, 64, 66, 44, 72),
        Part("bass", 38, "Synth Bass 1", (), (), 36, 98),
        "x---x---x---x---",
    ),
}


def songs(tempi_bpm: Sequence[int] = TEMPI_BPM, seed: int = 0) -> list[SongPlan]:
    """One song of each genre at each tempo. Keys, chords and bass lines are drawn by the seed: each genre goes through
    all 24 keys in turn, in an order of its own.
    """
    made = []
    for genre, groove in GROOVES.items():
        plan = next(song for song in SONGS if song.genre == genre)
        dice = random.Random(f"{seed}/{genre}")
        keys = [Key(tonic, mode) for tonic in TONICS for mode in SCALES]
        drawn: list[Key] = []
        while len(drawn) < len(tempi_bpm):
            drawn += dice.sample(keys, len(keys))
        for tempo_bpm, key in zip(tempi_bpm, drawn, strict=False):
            lines = [tuple(_bass(groove.rhythm, dice) for _ in range(BARS)) for _ in "AB"]
            made.append(
                replace(
                    plan,
                    title=f"{plan.title} {tempo_bpm}",
                    key=key,
                    tempo_bpm=tempo_bpm,
                    a=_progression(key.mode, groove, dice),
                    b=_progression(key.mode, groove, dice),
                    drums_a=groove.drums,
                    drums_b=groove.drums,
                    parts=(groove.chords, replace(groove.bass, a=lines[0], b=lines[1])),
                )
            )
    return made


def _progression(mode: str, groove: Groove, dice: random.Random) -> str:
    """A chord for each bar: the tonic first, the dominant last, so that the key is heard."""
    chords = CHORDS[mode]
    drawn = [chords[0], *dice.choices(chords, k=BARS - 2), chords[2]]
    return " ".join(SEVENTHS[chord] if groove.sevenths else chord for chord in drawn)


def _bass(rhythm: str, dice: random.Random) -> str:
    tones = iter(["r", *dice.choices(TONES, k=rhythm.count("x") - 1)])
    return "".join(next(tones) if step == "x" else step for step in rhythm)
