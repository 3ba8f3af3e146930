"""Stable Audio's metadata style: what is known of a clip by type, and captions of random subsets of it.

Stable Audio Open (Evans et al. 2024) is trained on such captions, drawn anew whenever a clip is drawn: a random subset
of the fields, half the time with their names and bars, half without and with commas, in shuffled order and case.
"""

import random
import re
from dataclasses import dataclass
from typing import Final

from luthier_music.clip_facts import Facts
from luthier_music.instruments import caption_name
from luthier_music.vocabulary import written_genre

KEEP_SHARE: Final = 0.75
"""Probability that a caption states a field."""


@dataclass(frozen=True)
class Field:
    """A type of metadata and what it holds; `plain` is how its one value reads beside its name."""

    name: str
    values: tuple[str, ...]
    plain: str = ""

    def named(self) -> str:
        return f"{self.name}: {self.plain or ', '.join(self.values)}"


def draw_metadata(facts: Facts, rng: random.Random) -> str:
    """A caption of a random subset of what is known: with the types' names and bars, or without and with commas.

    Never empty but where no field is known (`fields_of`).
    """
    fields = fields_of(facts, rng)
    kept = [field for field in fields if rng.random() < KEEP_SHARE] or (fields and [rng.choice(fields)])
    rng.shuffle(kept)
    if rng.random() < 0.5:
        text = rng.choice(("|", " | ")).join(field.named() for field in kept)
    else:
        text = ", ".join(value for field in kept for value in field.values)
    return rng.choice((str, str.lower, str.upper, _title))(text)


def fields_of(facts: Facts, rng: random.Random) -> list[Field]:
    """What is known of a clip by type, in a fixed order; lists of values in shuffled order."""
    key = f"{facts.tonic} {facts.mode or ''}".strip() if facts.tonic else f"{facts.mode} key" if facts.mode else ""
    fields = [
        Field("Genre", tuple(written_genre(genre) for genre in rng.sample(facts.genres, len(facts.genres)))),
        Field("Moods", tuple(rng.sample(facts.moods, len(facts.moods)))),
        Field("Instruments", tuple(instrument_names(facts, rng))),
        Field("Format", ("solo",) if facts.solo else ()),
        Field("Tempo", (tempo_value(facts),)),
        Field("Key", (key,)),
        Field("Era", facts.eras),
        Field("Energy", (f"{facts.energy()} energy",) if facts.energy() else (), facts.energy()),
    ]
    return [field for field in fields if any(field.values)]


def instrument_names(facts: Facts, rng: random.Random) -> list[str]:
    """What a caption calls the instruments that a full caption names, each once, in shuffled order."""
    found = [(heard.called, heard.program) for heard in facts.required_instruments()]
    names = list(dict.fromkeys(called or caption_name(program) for called, program in found if program is not None))
    rng.shuffle(names)
    return names


def tempo_value(facts: Facts) -> str:
    """The tempo as a field states it, such as "120 BPM"; empty = unknown."""
    tempo = f"{facts.tempo_bpm:.0f} {facts.tempo_unit()}" if facts.tempo_bpm is not None else ""
    return f"changing tempo around {tempo}".removesuffix(" around ") if facts.tempo_changes else tempo


def _title(text: str) -> str:
    return re.sub(r"\b[a-z]", lambda first: first[0].upper(), text)
