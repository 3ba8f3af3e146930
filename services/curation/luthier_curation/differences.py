"""In which words what the notes say and what was estimated from the audio differ from a fact that holds."""

from typing import Final

from luthier.common.v1.common_pb2 import KeyFact, TempoFact
from luthier_music.key_facts import key_of
from luthier_music.keys import key_score
from luthier_music.tempo import accuracy_1, accuracy_2

KEY_RELATIONS: Final = {0.5: "a fifth above", 0.3: "the relative key", 0.2: "the parallel key"}
"""Of another key to the one that holds, by MIREX's weights."""
OCTAVES: Final = {2.0: "double", 0.5: "half", 3.0: "three times", 1 / 3: "a third of"}
"""Of another tempo to the one that holds: the errors that Accuracy 2 allows."""


def tempo_difference(used: TempoFact, other: TempoFact, whose: str) -> str:
    """How another tempo differs from the one that holds; empty within 2 % (Accuracy 1), where one of them is unknown or
    changes, and where the one that holds counts quarter notes because nobody knows the beat."""
    if not used.tempo_bpm or not other.tempo_bpm or used.notated or used.changes or other.changes:
        return ""
    if accuracy_1(used.tempo_bpm, other.tempo_bpm):
        return ""
    if accuracy_2(used.tempo_bpm, other.tempo_bpm):
        nearest = min(OCTAVES, key=lambda ratio: abs(ratio - other.tempo_bpm / used.tempo_bpm))
        return f"{whose} says {OCTAVES[nearest]} the tempo"
    return f"{whose} says {f'{other.tempo_bpm:.1f}'.removesuffix('.0')} BPM"


def key_difference(used: KeyFact, other: KeyFact, whose: str) -> str:
    """How another key differs from the one that holds; empty where they agree or one is unknown."""
    mine, theirs = key_of(used), key_of(other)
    if mine is None or theirs is None or mine == theirs:
        return ""
    relation = KEY_RELATIONS.get(key_score(mine, theirs))
    return f"{whose} says {theirs}" + (f", {relation}" if relation else "")
