"""The songs that the experiment learns from: every tempo from 75 to 160 BPM in four genres, keys evenly drawn.

The plans of the songbook give parts and drums; harmony exists in a major and a minor form here, so that each genre
comes in all 24 keys and a key says nothing of the genre.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from luthier_pipeline.songbook.plan import SONGS, SongPlan
from luthier_pipeline.songbook.theory import SCALES, TONICS, Key

TEMPI_BPM: Final = range(75, 161)  # as the paper tests: 75 to 160
GENRES: Final = ("rock", "jazz", "pop", "house")
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
    for genre in GENRES:
        plan = next(song for song in SONGS if song.genre == genre)
        dice = random.Random(f"{seed}/{genre}")
        keys = [Key(tonic, mode) for tonic in TONICS for mode in SCALES]
        drawn: list[Key] = []
        while len(drawn) < len(tempi_bpm):
            drawn += dice.sample(keys, len(keys))
        for tempo_bpm, key in zip(tempi_bpm, drawn, strict=False):
            a, b = HARMONY[genre, key.mode]
            title = f"{plan.title} {tempo_bpm}"
            made.append(replace(plan, title=title, key=key, tempo_bpm=tempo_bpm, last_tempo_bpm=0, a=a, b=b))
    return made
