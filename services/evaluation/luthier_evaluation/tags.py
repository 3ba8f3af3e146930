"""Genres and instruments that a prompt asks for, heard by musicnn's taggers; and how often the taggers are right.

Each of the taggers' classes that means one of our words stands for it here. A more special word is heard as what it
implies: death metal as metal, a nylon-string guitar as a guitar. A word is *heard* where the mean of the sigmoids of
its classes, over all windows, is at least its threshold.

Thresholds, and the taggers' own accuracy on rendered music whose instruments are known, are measured by
`tests/bench/tagger_accuracy.py` and ship as `tagger_accuracy.json`. Where a tagger does not tell what has a word from
what has not, the word is not computed, and the reason says so.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal

import numpy as np

from luthier_evaluation.embedders.base import Embedding
from luthier_evaluation.embedders.musicnn import MSD_CLASSES, MTT_CLASSES
from luthier_kit.rpc import InvalidRequest
from luthier_music.instrument_words import PHRASES
from luthier_music.vocabulary import implied_genres, normalise, understand

Kind = Literal["genre", "instrument"]
Sounds = Literal["stems", "mixes"]

MSD: Final = "musicnn_msd"
MTT: Final = "musicnn_mtt"
CLASSES: Final[Mapping[str, tuple[str, ...]]] = {MSD: MSD_CLASSES, MTT: MTT_CLASSES}

USEFUL: Final = 0.7
"""Balanced accuracy from which a word is computed; 0.5 is that of a coin."""
MIN_SOUNDS: Final = 10
"""Clips with the word, and clips without, below which nothing is known of it."""


@dataclass(frozen=True)
class Tag:
    """One of our words, and the classes of a tagger that mean it."""

    word: str
    embedder: str
    classes: tuple[str, ...]


def _tags(*tags: Tag) -> Mapping[str, Tag]:
    return {tag.word: tag for tag in tags}


GENRES: Final = _tags(
    Tag("rock", MSD, ("rock", "classic rock", "hard rock")),
    Tag("alternative rock", MSD, ("alternative", "alternative rock")),
    Tag("indie rock", MSD, ("indie rock",)),
    Tag("progressive rock", MSD, ("Progressive rock",)),
    Tag("punk", MSD, ("punk",)),
    Tag("metal", MSD, ("metal", "heavy metal")),
    Tag("pop", MSD, ("pop",)),
    Tag("indie pop", MSD, ("indie pop",)),
    Tag("jazz", MSD, ("jazz",)),
    Tag("blues", MSD, ("blues",)),
    Tag("soul", MSD, ("soul",)),
    Tag("R&B", MSD, ("rnb",)),
    Tag("funk", MSD, ("funk",)),
    Tag("hip hop", MSD, ("Hip-Hop",)),
    Tag("electronic", MSD, ("electronic", "electronica")),
    Tag("electro", MSD, ("electro",)),
    Tag("house", MSD, ("House",)),
    Tag("techno", MTT, ("techno",)),
    Tag("ambient", MSD, ("ambient",)),
    Tag("chillout", MSD, ("chillout", "chill")),
    Tag("new age", MTT, ("new age",)),
    Tag("easy listening", MSD, ("easy listening",)),
    Tag("country", MSD, ("country",)),
    Tag("folk", MSD, ("folk",)),
    Tag("classical", MTT, ("classical", "classic")),
    Tag("opera", MTT, ("opera",)),
    Tag("experimental", MSD, ("experimental",)),
)
"""By canonical word of `luthier_music.vocabulary`."""

INSTRUMENTS: Final = _tags(
    Tag("guitar", MTT, ("guitar",)),
    Tag("piano", MTT, ("piano",)),
    Tag("harpsichord", MTT, ("harpsichord",)),
    Tag("strings", MTT, ("strings", "violin", "cello")),
    Tag("violin", MTT, ("violin",)),
    Tag("cello", MTT, ("cello",)),
    Tag("harp", MTT, ("harp",)),
    Tag("flute", MTT, ("flute",)),
    Tag("sitar", MTT, ("sitar",)),
    Tag("synth", MTT, ("synth",)),
    Tag("choir", MTT, ("choir", "choral")),
    Tag("drum", MTT, ("drums", "beat", "beats")),
)
"""By a phrase of `luthier_music.instrument_words`, which says of which General MIDI programs it is true."""

TAGS: Final[Mapping[Kind, Mapping[str, Tag]]] = {"genre": GENRES, "instrument": INSTRUMENTS}


@dataclass(frozen=True)
class Rates:
    """How a tagger did on clips of which the truth is known: `hits` of the `positives`, clips that have the word, were
    heard, and `false_alarms` of the `negatives`. `area`: under the ROC curve, whatever the threshold; 0.5 is chance.
    """

    hits: int
    positives: int
    false_alarms: int
    negatives: int
    area: float | None

    @property
    def measured(self) -> bool:
        """Whether there are clips enough of both kinds."""
        return min(self.positives, self.negatives) >= MIN_SOUNDS

    @property
    def hit_rate(self) -> float | None:
        """0 to 1; None without clips."""
        return self.hits / self.positives if self.positives else None

    @property
    def false_alarm_rate(self) -> float | None:
        """0 to 1; None without clips."""
        return self.false_alarms / self.negatives if self.negatives else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the hit rate and of the share of the others that are not heard, 0 to 1; None without clips."""
        hit, alarm = self.hit_rate, self.false_alarm_rate
        return None if hit is None or alarm is None else (hit + 1.0 - alarm) / 2


@dataclass(frozen=True)
class WordAccuracy:
    """What is known of a word: its threshold (a mean sigmoid, 0 to 1), and the rates that it reached on clips of other
    songs than those it was chosen on. `stems`: an instrument alone. A genre is of a mix only.
    """

    kind: Kind
    word: str
    embedder: str
    classes: tuple[str, ...]
    threshold: float
    stems: Rates
    mixes: Rates

    @property
    def rates(self) -> Rates:
        """Those that decide whether the word is computed: the worse of stems and mixes, where there are clips enough.

        Mixes alone would not do: a harp that is only ever in an orchestra may be heard by the orchestra.
        """
        measured = [rates for rates in (self.stems, self.mixes) if rates.measured]
        return min(measured, key=lambda rates: rates.balanced_accuracy or 0.0, default=self.mixes)


@dataclass(frozen=True)
class TaggerAccuracy:
    """What `tests/bench/tagger_accuracy.py` measured: when, how, with which SoundFont, on how many clips and songs,
    with which weights (sha256 by embedder), and each word.
    """

    measured_on: str
    command: str
    soundfont: str
    clips: int
    songs: int
    weights: Mapping[str, str]
    words: tuple[WordAccuracy, ...]

    def of(self, kind: Kind, word: str) -> WordAccuracy | None:
        """What is known of a word of TAGS; None where nothing is, or where it was of other classes."""
        tag = TAGS[kind].get(word)
        found = (one for one in self.words if tag and (one.kind, one.word) == (kind, word))
        return next((one for one in found if tag and (one.embedder, one.classes) == (tag.embedder, tag.classes)), None)


def accuracy_from_json(text: str) -> TaggerAccuracy:
    """The accuracy that a file states. ValueError, KeyError or TypeError where it states none."""
    document = json.loads(text)
    words = []
    for word in document.pop("words"):
        stems, mixes = (Rates(**word.pop(sounds)) for sounds in ("stems", "mixes"))
        words.append(WordAccuracy(**{**word, "classes": tuple(word["classes"])}, stems=stems, mixes=mixes))
    return TaggerAccuracy(**document, words=tuple(words))


@cache
def shipped_accuracy() -> TaggerAccuracy:
    """The accuracy that ships with the service."""
    return accuracy_from_json((resources.files("luthier_evaluation") / "tagger_accuracy.json").read_text("utf-8"))


@dataclass(frozen=True)
class Heard:
    """A word asked for. `as_word`: the word of TAGS that stands for it. `belief`: the mean sigmoid, 0 to 1."""

    asked: str
    as_word: str
    belief: float
    heard: bool
    accuracy: WordAccuracy


@dataclass(frozen=True)
class NotHeard:
    """A word asked for of which a tagger can say nothing, and why."""

    asked: str
    reason: str


def genre_heard(words: Iterable[str], embeddings: Mapping[str, Embedding]) -> list[Heard | NotHeard]:
    """Of each genre asked for: does the audio have it? `embeddings`: the audio's, by embedder.

    InvalidRequest for an embedding that is not of that tagger.
    """
    return [_heard("genre", word, genre_word(word), embeddings) for word in words]


def instrument_heard(words: Iterable[str], embeddings: Mapping[str, Embedding]) -> list[Heard | NotHeard]:
    """The same of instruments: General MIDI names, or words of captions."""
    return [_heard("instrument", word, instrument_word(word), embeddings) for word in words]


def genre_word(asked: str) -> str | None:
    """The most special word of GENRES that is true of a genre; None where none is."""
    genre = next((word.text for word in understand(asked, "genre") if word.kind == "genre"), None)
    if genre is None:
        return None
    known = {normalise(word): word for word in GENRES}
    implied = [word for name in implied_genres(genre) if (word := known.get(normalise(name)))]
    return max(
        implied, key=lambda word: (normalise(word) == genre, len(implied_genres(word.lower())), word), default=None
    )


def instrument_word(asked: str) -> str | None:
    """The word of INSTRUMENTS with the fewest programs that is true of all that `asked` may mean; None = none is."""
    programs = _programs(asked)
    if not programs:
        return None
    true = [word for word in INSTRUMENTS if programs <= PHRASES[word]]
    return min(true, key=lambda word: len(PHRASES[word]), default=None)


def _programs(asked: str) -> frozenset[int]:
    """The programs of which a phrase, in the singular or plural, is true; none for one that is unknown."""
    text = " ".join(asked.casefold().split())
    loose = re.sub(r"[\s-]+", " ", text)
    spellings = (text, loose, loose.removesuffix("s"), loose.removesuffix("es"))
    return next((PHRASES[one] for one in spellings if one in PHRASES), frozenset())


def belief(tag: Tag, embedding: Embedding) -> float:
    """The mean over windows and classes of a tag's sigmoids, 0 to 1. InvalidRequest for another tagger's embedding."""
    classes = CLASSES[tag.embedder]
    if embedding.logits.ndim != 2 or not len(embedding.logits) or embedding.logits.shape[1] != len(classes):
        bound = f"must be logits (windows, {len(classes)}), got {embedding.logits.shape}"
        raise InvalidRequest(violations=[(f"embeddings[{tag.embedder}]", bound)])
    logits = embedding.logits[:, [classes.index(name) for name in tag.classes]].astype(np.float64)
    return float((0.5 * (1.0 + np.tanh(logits / 2))).mean())  # the sigmoid, without overflow


def _heard(kind: Kind, asked: str, word: str | None, embeddings: Mapping[str, Embedding]) -> Heard | NotHeard:
    if word is None:
        return NotHeard(asked, f"no class of the taggers means this {kind}")
    known = shipped_accuracy().of(kind, word)
    if reason := _useless(word, known):
        return NotHeard(asked, reason)
    assert known
    tag = TAGS[kind][word]
    if tag.embedder not in embeddings:
        return NotHeard(asked, f"{word} is a class of {tag.embedder}, whose weights are not here")
    found = belief(tag, embeddings[tag.embedder])
    return Heard(asked, word, found, found >= known.threshold, known)


def _useless(word: str, known: WordAccuracy | None) -> str:
    """Why a word is not computed; empty where it is."""
    if known is None or not known.rates.measured:
        return f"how well the tagger hears {word} is not known: too few rendered clips have it"
    accuracy = known.rates.balanced_accuracy or 0.0
    if accuracy < USEFUL:
        n = known.rates.positives + known.rates.negatives
        return f"the tagger does not hear {word} in rendered music: balanced accuracy {accuracy:.3f} on {n} clips"
    return ""


def words_computed(kind: Kind, accuracy: TaggerAccuracy | None = None) -> Sequence[str]:
    """The words of a kind that are computed."""
    known = accuracy or shipped_accuracy()
    return [word for word in TAGS[kind] if not _useless(word, known.of(kind, word))]
