"""The songs that the experiment learns from: every tempo from 75 to 160 BPM in four genres, keys evenly drawn.

Nothing but the groove: drums, bass and chords that strike with the beat. Half of what sounds then follows from genre,
tempo and place in the bar, where melodies, fills and pads leave a small model little to learn a tempo from (tried: of
the variance of latents that a genre leaves open, tempo explains a half here, and little of the songbook's). Harmony
exists in a major and a minor form, so that each genre comes in all 24 keys and a key says nothing of the genre.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from luthier_pipeline.songbook.plan import SONGS, Part, SongPlan
from luthier_pipeline.songbook.theory import SCALES, TONICS, Key

TEMPI_BPM: Final = range(75, 161)  # as the paper tests: 75 to 160
FOUR, WALK, EIGHT = "x---x---x---x---", "r--3--5--a--", "r-r-r-r-r-r-r-r-"
GROOVES: Final = {
    "rock": (
        "rock",
        Part("chords", 29, "Overdriven Guitar", (FOUR,), (FOUR,), 52, 84, 50, 80),
        Part("bass", 34, "Electric Bass (pick)", (EIGHT,), (EIGHT,), 36, 96),
    ),
    "jazz": (
        "swing",
        Part("chords", 0, "Acoustic Grand Piano", ("x-....x-....",), ("x-....x-....",), 62, 74, 50),
        Part("bass", 32, "Acoustic Bass", (WALK,), (WALK,), 40, 92),
    ),
    "pop": (
        "pop",
        Part("chords", 0, "Acoustic Grand Piano", (FOUR,), (FOUR,), 62, 80, 54),
        Part("bass", 33, "Electric Bass (finger)", ("r---r---r---r---",), ("r---r---r---r---",), 36, 92),
    ),
    "house": (
        "house",
        Part("chords", 81, "Lead 2 (sawtooth)", ("..x-..x-..x-..x-",), ("..x-..x-..x-..x-",), 64, 66, 44, 72),
        Part("bass", 38, "Synth Bass 1", ("r---r---r---r---",), ("r---r---r---r---",), 36, 98),
    ),
}
"""Drums, chords and bass of each genre, as `songbook.parts` reads them."""
HARMONY: Final = {
    ("rock", "major"): ("I I IV V I I IV V", "IV V I I IV IV V V"),
    ("rock", "minor"): ("i i VI VII i i iv V", "VI VII i i iv iv V V"),
    ("jazz", "major"): ("Imaj7 vi7 ii7 V7 iii7 vi7 ii7,V7 Imaj7", "IVmaj7 iv7 iii7 VI7 ii7 ii7 V7 V7"),
    ("jazz", "minor"): ("i7 VImaj7 iv7 V7 i7 VImaj7 iv7,V7 i7", "iv7 VII7 IIImaj7 VImaj7 iv7 iv7 V7 V7"),
    ("pop", "major"): ("I V vi IV I V IV V", "vi IV I V vi IV ii V"),
    ("pop", "minor"): ("i VI III VII i VI iv V", "VI VII i i VI iv V V"),
    ("house", "major"): ("I I vi vi IV IV V V", "IV IV I I vi vi V V"),
    ("house", "minor"): ("i i VI VI i i iv V", "iv iv i i VI VI V V"),
}
"""Progressions of sections A and B, one bar per blank, by genre and mode."""


def songs(tempi_bpm: Sequence[int] = TEMPI_BPM, seed: int = 0) -> list[SongPlan]:
    """One song of each genre at each tempo, its key drawn by the seed: each genre goes through all keys in turn, in an
    order of its own.
    """
    made = []
    for genre, (kit, *parts) in GROOVES.items():
        plan = next(song for song in SONGS if song.genre == genre)
        dice = random.Random(f"{seed}/{genre}")
        keys = [Key(tonic, mode) for tonic in TONICS for mode in SCALES]
        drawn: list[Key] = []
        while len(drawn) < len(tempi_bpm):
            drawn += dice.sample(keys, len(keys))
        for tempo_bpm, key in zip(tempi_bpm, drawn, strict=False):
            a, b = HARMONY[genre, key.mode]
            title = f"{plan.title} {tempo_bpm}"
            made.append(
                replace(
                    plan,
                    title=title,
                    key=key,
                    tempo_bpm=tempo_bpm,
                    a=a,
                    b=b,
                    drums_a=kit,
                    drums_b=kit,
                    parts=tuple(parts),
                )
            )
    return made
