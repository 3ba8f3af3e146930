"""What a prompt asks for: the instruments, genres, tempi and keys that it states.

A prompt is read as a caption is checked, against a clip of which nothing is known: then everything that it states is a
difference. What it denies ("no drums"), and words that mostly mean something else, it does not ask for.
"""

from dataclasses import dataclass

from luthier_music.captions import check
from luthier_music.captions.instruments import programs_of
from luthier_music.captions.key import key_of
from luthier_music.captions.report import NOT_IN_FACTS
from luthier_music.captions.tempo import beats_of
from luthier_music.captions.words import genre_of
from luthier_music.clip_facts import Facts
from luthier_music.keys import Key


@dataclass(frozen=True)
class Asked:
    """What a prompt states, each once, in the order of the text.

    `instruments`: the words, and the programs (DRUM_PROGRAM for drums) of which they may be true, none of what General
    MIDI does not have; `genres`: canonical words; `tempi_bpm`: lowest and highest, mostly the same.
    """

    instruments: tuple[tuple[str, frozenset[int]], ...] = ()
    genres: tuple[str, ...] = ()
    tempi_bpm: tuple[tuple[float, float], ...] = ()
    keys: tuple[Key, ...] = ()


def asked_of(prompt: str) -> Asked:
    """What a prompt of at most 2000 characters asks for."""
    stated: dict[str, list[str]] = {}
    for found in check(prompt, Facts(), allow_subset=True):
        if found.reason == NOT_IN_FACTS:
            stated.setdefault(found.subject, []).append(found.stated)
    tempi = (beats_of(words) for words in stated.get("tempo", ()))
    keys = (key_of(words) for words in stated.get("key", ()))
    return Asked(
        instruments=tuple((words.lower(), programs_of(words)) for words in stated.get("instrument", ())),
        genres=tuple(dict.fromkeys(genre_of(words) for words in stated.get("genre", ()))),
        tempi_bpm=tuple(dict.fromkeys(tempo for tempo in tempi if tempo)),
        keys=tuple(dict.fromkeys(key for key in keys if key)),
    )
