"""The grammar of captions: what is known of a clip in words, without a language model.

Prompting writes captions of clips by it, inference completes prompts by it. Attributes come in shuffled order, in
wordings that a generator draws; what is unknown is left out. The metadata style is luthier_music.metadata's: training
draws it anew at every step.
"""

from __future__ import annotations

import random
import re
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from luthier_music.clip_facts import Facts, Voice
from luthier_music.instrument_words import SECTIONS
from luthier_music.instruments import caption_name
from luthier_music.metadata import fields_of, instrument_names, tempo_value
from luthier_music.vocabulary import GENRE_WORDS, written_genre

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

VERSION: Final = "5"
"""Raised whenever equal facts and generators give other captions."""
MAX_SHORT_WORDS: Final = 16
"""Of a short prompt: about what people type into a music generator."""

_NOUNS: Final = ("piece", "track", "tune", "instrumental", "composition")
_VOWEL_SOUND: Final = re.compile(r"(?!eu|u[ks]\b)[aeiou]|R&B|MPB", re.IGNORECASE)
EXTRA_SHARE: Final = 0.3  # of sentences that state an optional fact


T = TypeVar("T")


class PlainestWording(random.Random):
    """Draws the first of every choice, keeps every order and adds nothing: equal kinds of facts read alike."""

    def choice(self, seq: SupportsLenAndGetItem[T]) -> T:
        return seq[0]

    def shuffle(self, x: MutableSequence[Any]) -> None:
        pass

    def random(self) -> float:
        return 1.0


def sentence(facts: Facts, rng: random.Random) -> str:
    """One or two sentences that state all that a caption must."""
    clauses = [clause for clause in (_key(facts, rng), _tempo(facts, rng), _players(facts, rng)) if clause]
    rng.shuffle(clauses)
    shape = rng.choice((_plain, _plain, _led, _told))
    text = shape(_head(facts, rng), clauses, _extras(facts, rng))
    return text[0].upper() + text[1:] + "."


def short(facts: Facts, rng: random.Random) -> str:
    """ "Slow jazz piece for piano in A minor." Genre and instruments, with tempo, key, both or neither."""
    mood = [rng.choice(facts.moods)] if facts.moods and rng.random() < 0.5 else []
    genre = written_genre(rng.choice(facts.genres[:3])) if facts.genres else ""
    if mood and genre and _names_another(mood[0], genre.lower()):
        mood = []
    names = [caption_name(h.program) for h in facts.required_instruments()[:2] if h.program is not None]
    names = list(dict.fromkeys(names))[: rng.choice((1, 2, 2))]
    rest = [clause for clause in (_short_key(facts, rng), tempo_value(facts)) if clause]
    rng.shuffle(rest)
    if genre or names:
        rest = rest[: rng.choice((0, 1, 1, 2))]
    players = f"{rng.choice(('with', 'for', 'on'))} {' and '.join(names)}" if names else ""
    if facts.solo and names:
        players = _alone(names[0], facts, rng)
    nouns = _nouns(facts)
    head = " ".join([*mood, genre, rng.choice((*nouns, "")) if genre else rng.choice(nouns)]).split()
    parts = [" ".join([*head, players]).strip(), *rest]
    while len(" ".join(parts).split()) > MAX_SHORT_WORDS:
        parts.pop()
    return rng.choice((_capital, str))(", ".join(parts)) + rng.choice((".", ""))


def _short_key(facts: Facts, rng: random.Random) -> str:
    if not facts.tonic:
        return f"{facts.mode} key" if facts.mode else ""
    return f"{_note(facts.tonic, rng)} {facts.mode}" if facts.mode else f"key of {facts.tonic}"


def tags(facts: Facts, rng: random.Random) -> str:
    """ "jazz, calm, A minor, 120 BPM, piano, drums": every field's values one by one, shuffled, without their names."""
    values = [value for field in fields_of(facts, rng) for value in field.values]
    rng.shuffle(values)
    return rng.choice((str, str, str.lower))(", ".join(values))


def completed(prompt: str, facts: Facts) -> str:
    """A prompt with what is known of key, tempo, instruments and meter added in the plainest wording.

    An empty one becomes a sentence, one of sentences gets one more, one of fields between bars gets fields, and any
    other gets clauses behind it.
    """
    rng, text = PlainestWording(), prompt.strip()
    clauses = [part for part in (_key(facts, rng), _tempo(facts, rng), _players(facts, rng), _meter(facts)) if part]
    if not clauses:
        return text
    if not text:
        return _capital(_plain(rng.choice(_NOUNS), clauses, [])) + "."
    if "|" in text:
        fields = fields_of(facts, rng)
        values = [field.named() if ":" in text else ", ".join(field.values) for field in fields]
        bar = " | " if " | " in text else "|"
        return bar.join([text.rstrip("| "), *values, *([_meter(facts)] if facts.meter else [])])
    if text[-1] in ".!?":
        return f"{text} {_capital(', '.join(clauses))}."
    return ", ".join([text.rstrip(",;: "), *clauses])


def _plain(head: str, clauses: list[str], extras: list[str]) -> str:
    """ "An energetic rock track in A minor, at 120 BPM, with guitar and drums." """
    return _article(head) + " " + ", ".join([" ".join([head, *clauses[:1]]), *clauses[1:], *extras])


def _led(head: str, clauses: list[str], extras: list[str]) -> str:
    """ "In A minor, at 120 BPM, an energetic rock track with guitar and drums." """
    before, after = clauses[:-1], clauses[-1:]
    return ", ".join([*before, " ".join([_article(head), head, *after]), *extras])


def _told(head: str, clauses: list[str], extras: list[str]) -> str:
    """ "Energetic rock track. In A minor, at 120 BPM, with guitar and drums." """
    return ". ".join(part for part in (head, _capital(", ".join([*clauses, *extras]))) if part)


def _head(facts: Facts, rng: random.Random) -> str:
    moods = rng.sample(facts.moods, min(len(facts.moods), rng.choice((1, 2, 2))))
    era = list(facts.eras[:1]) if rng.random() < EXTRA_SHARE else []
    genre = rng.choice((facts.genres[0], *facts.genres[:3])) if facts.genres else ""
    joined = rng.choice((", ", " and ")) if len(moods) == 2 else ""
    mood, noun = joined.join(moods), rng.choice(_nouns(facts))
    if mood and genre and not era and _names_another(moods[-1], genre):
        return f"{written_genre(genre)} {noun} with {_article(mood)} {mood} mood"
    return " ".join([part for part in (mood, *era, written_genre(genre)) if part] + [noun])


def _nouns(facts: Facts) -> tuple[str, ...]:
    """What the clip may be called: an instrumental only where nobody sings."""
    return _NOUNS if facts.voice is Voice.NONE else tuple(noun for noun in _NOUNS if noun != "instrumental")


def _names_another(mood: str, genre: str) -> bool:
    """Whether a mood before a genre reads as the name of another genre: a smooth piece of jazz is no smooth jazz."""
    return f"{mood} {genre}" in GENRE_WORDS


def _extras(facts: Facts, rng: random.Random) -> list[str]:
    """Optional facts: meter, energy, acousticness."""
    extras = []
    if facts.meter_changes:
        extras.append("with changing meter")
    elif facts.meter and rng.random() < (1.0 if facts.meter != (4, 4) else EXTRA_SHARE):
        extras.append(_meter(facts))
    if facts.energy() and rng.random() < EXTRA_SHARE:
        extras.append(f"{facts.energy()} energy")
    if facts.acousticness() and rng.random() < EXTRA_SHARE:
        extras.append(f"fully {facts.acousticness()}")
    return extras


def _meter(facts: Facts) -> str:
    return f"in {facts.meter[0]}/{facts.meter[1]} time" if facts.meter else ""


def _key(facts: Facts, rng: random.Random) -> str:
    if not facts.tonic:
        return f"in a {facts.mode} key" if facts.mode else ""
    named = " ".join(part for part in (_note(facts.tonic, rng), facts.mode) if part)
    return f"{rng.choice(('in', 'in', 'in the key of'))} {named}" if facts.mode else f"in the key of {named}"


def _note(tonic: str, rng: random.Random) -> str:
    words = {"#": ("#", " sharp", "-sharp"), "b": ("b", " flat", "-flat")}
    return tonic[0] + rng.choice(words[tonic[1]]) if len(tonic) > 1 else tonic


def _tempo(facts: Facts, rng: random.Random) -> str:
    if facts.tempo_bpm is None:
        return "with a changing tempo" if facts.tempo_changes else ""
    beats = rng.choice(("BPM", "BPM", "beats per minute"))
    number = f"{facts.tempo_bpm:.0f} {facts.tempo_unit() if facts.notated else beats}"
    if facts.tempo_changes:
        return f"with a changing tempo around {number}"
    word = _pace(facts.tempo_bpm) if not facts.notated and rng.random() < EXTRA_SHARE else ""
    return rng.choice((f"at {number}", f"at a {word} tempo of {number}".replace("  ", " ")))


def _pace(tempo_bpm: float) -> str:
    """A word that nobody would dispute, else none."""
    if tempo_bpm <= 84:
        return "slow"
    return "fast" if tempo_bpm >= 132 else "moderate" if 96 <= tempo_bpm <= 118 else ""


def _players(facts: Facts, rng: random.Random) -> str:
    names = instrument_names(facts, rng)
    if not names:
        return ""
    if facts.solo and len(names) == 1:
        return _alone(names[0], facts, rng)
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{rng.choice(('with', 'with', 'featuring', 'played on', 'built on'))} {listed}"


def _alone(name: str, facts: Facts, rng: random.Random) -> str:
    """ "for solo cello": one part, whatever it plays; chords are no accompaniment. A section is no soloist."""
    solo = "for {name} alone" if facts.programs() & SECTIONS else "for solo {name}"
    wordings = (solo, solo, "for {name} alone", "played on {name} alone", "for unaccompanied {name}")
    return rng.choice(wordings).format(name=name)


def _article(head: str) -> str:
    return "an" if _VOWEL_SOUND.match(head) else "a"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
