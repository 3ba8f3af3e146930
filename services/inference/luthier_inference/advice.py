"""Says of a prompt what the model hardly heard in training, by the card that its training wrote. Never an error.

A prompt asks for something by stating it (`luthier_music.captions.asked`). Of a model that has no card nothing is said,
nor of a subject of which too little is known: what nobody labelled may have been heard all the same.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from luthier.inference.v1.inference_pb2 import Advice
from luthier.training.v1.model_card_pb2 import HeardAmount, HeardTempo, ModelCard
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import DataLoss, InvalidRequest, LuthierError, NotFound
from luthier_kit.store import Store
from luthier_music.captions.asked import Asked, asked_of
from luthier_music.instruments import DRUM_PROGRAM, DRUMS, caption_name, program_of
from luthier_music.keys import Key, parse_key
from luthier_music.vocabulary import implied_genres, written_genre

log = logging.getLogger(__name__)
ENOUGH_S: Final = 300.0
ENOUGH_SHARE: Final = 0.02
"""A model knows what it heard for five minutes, or for this share of its training where that is less."""
KNOWN_SHARE: Final = 0.5
"""Of the training, of which a subject must be known."""
NEAR_TEMPO: Final = 0.04
"""Tempi that differ by no more are one tempo: twice the tolerance of Accuracy 1 (Gouyon 2006)."""
NEIGHBOURING_TEMPO: Final = 0.1
"""Of the tempo that is asked for, up to which another one is near it."""
RELATED_GENRE: Final = 0.99
"""Genres are near that have a kind in common."""
RELATED_KEY: Final = 1.5
"""Closely related keys: those of signatures that differ by one step at most."""
MOST_NEAR: Final = 3
CARDS_KEPT: Final = 256
FIFTHS: Final = 7  # semitones

T = TypeVar("T")


@dataclass(frozen=True)
class Heard:
    """How long a model heard what, seconds; a subject of which too little is known is None."""

    enough_s: float
    programs: Mapping[int, float] | None
    genres: Mapping[str, float] | None
    tempi: Mapping[tuple[float, float], float] | None
    keys: Mapping[Key, float] | None
    base_unknown: bool = False
    """Nobody has recorded what the base heard before."""


class Cards:
    """Advice by the cards of model versions, each read once."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._heard: dict[str, Heard | None] = {}

    def advice(self, version: ModelVersion, prompt: str) -> list[Advice]:
        """What the prompt asks for and this version hardly heard."""
        heard = self._of(version)
        return list(advice_of(heard, asked_of(prompt))) if heard else []

    def _of(self, version: ModelVersion) -> Heard | None:
        """None without a card, and where it cannot be read now."""
        if version.card is None:
            return None
        key = version.card.sha256
        if key in self._heard:
            return self._heard[key]
        heard = None
        try:
            heard = heard_of(self._store.get(ModelCard, version.card))
        except (DataLoss, InvalidRequest, NotFound) as error:
            log.warning("the card of %s is of no use: %s", version.label, error)
        except LuthierError as error:
            log.warning("the card of %s cannot be read now: %s", version.label, error)
            return None
        with self._lock:
            if len(self._heard) >= CARDS_KEPT:
                self._heard.clear()
            self._heard[key] = heard
        return heard


def heard_of(card: ModelCard) -> Heard:
    """What a card says, as prompts are held against it."""
    total_s = card.duration_s + card.base_duration_s

    def known(found: Mapping[T, float], known_s: float) -> Mapping[T, float] | None:
        return found if known_s > 0 and known_s >= KNOWN_SHARE * total_s else None

    programs = {program: _seconds(each) for each in card.instruments if (program := _program(each.name)) is not None}
    return Heard(
        enough_s=min(ENOUGH_S, ENOUGH_SHARE * total_s),
        base_unknown=card.base_unknown,
        programs=known(programs, card.instruments_known_s),
        genres=known({each.name: _seconds(each) for each in card.genres}, card.genres_known_s),
        tempi=known({(each.low_bpm, each.high_bpm): _seconds(each) for each in card.tempi}, card.tempi_known_s),
        keys=known({parse_key(each.name): _seconds(each) for each in card.keys}, card.keys_known_s),
    )


def advice_of(heard: Heard, asked: Asked) -> Iterator[Advice]:
    """What is asked for and was heard too little, in the order instruments, genres, tempi, keys."""

    def too_little(subject: str, words: str, heard_s: float, near: Iterable[str]) -> Iterator[Advice]:
        if heard_s < heard.enough_s:
            yield Advice(
                subject=subject, asked=words, heard_s=heard_s, enough_s=heard.enough_s, near=[*near][:MOST_NEAR],
                base_unknown=heard.base_unknown,
            )  # fmt: skip

    if heard.programs is not None:
        for words, programs in asked.instruments:
            heard_s = sum(heard.programs.get(program, 0.0) for program in programs)
            near = _nearest(heard.programs, heard.enough_s, partial(_other_family, asked=programs), 0)
            yield from too_little("instrument", words, heard_s, map(caption_name, near))
    if heard.genres is not None:
        for genre in asked.genres:
            near_genres = _nearest(heard.genres, heard.enough_s, partial(_unrelated, asked=genre), RELATED_GENRE)
            heard_s = heard.genres.get(genre, 0.0)
            yield from too_little("genre", written_genre(genre), heard_s, map(written_genre, near_genres))
    if heard.tempi is not None:
        for tempo in asked.tempi_bpm:
            known = {bounds: _around(heard.tempi, bounds) for bounds in heard.tempi}
            bins = _nearest(known, heard.enough_s, partial(_tempo_distance, asked=tempo), NEIGHBOURING_TEMPO)
            yield from too_little("tempo", _bpm(tempo), _around(heard.tempi, tempo), map(_bpm, bins))
    if heard.keys is not None:
        for key in asked.keys:
            keys = _nearest(heard.keys, heard.enough_s, partial(_key_distance, asked=key), RELATED_KEY)
            yield from too_little("key", str(key), heard.keys.get(key, 0.0), map(str, keys))


def _nearest(heard: Mapping[T, float], enough_s: float, distance: Callable[[T], float], farthest: float) -> list[T]:
    """What was heard enough and is no farther than `farthest`, nearest first, and of what is equally near the most
    heard. Of what is far nothing is said: drums are no substitute for a violin.
    """
    near = (each for each in heard if heard[each] >= enough_s and distance(each) <= farthest)
    return sorted(near, key=lambda each: (distance(each), -heard[each]))


def _seconds(amount: HeardAmount | HeardTempo) -> float:
    return amount.duration_s + amount.base_duration_s


def _program(name: str) -> int | None:
    if name == DRUMS:
        return DRUM_PROGRAM
    try:
        return program_of(name)
    except KeyError:
        return None


def _other_family(program: int, asked: frozenset[int]) -> float:
    """0 in a family of what is asked for, else 1; drums are a family of their own."""
    return float(program // 8 not in {each // 8 for each in asked})


def _unrelated(genre: str, asked: str) -> float:
    """0 to 1: the share of what both are kinds of that they do not have in common."""
    own, other = implied_genres(genre), implied_genres(asked)
    return 1 - len(own & other) / len(own | other)


def _around(tempi: Mapping[tuple[float, float], float], asked: tuple[float, float]) -> float:
    """Seconds of tempi that are within NEAR_TEMPO of what is asked for."""
    low, high = asked[0] * (1 - NEAR_TEMPO), asked[1] * (1 + NEAR_TEMPO)
    return sum(seconds for (begin, end), seconds in tempi.items() if begin <= high and low < end)


def _tempo_distance(tempo: tuple[float, float], asked: tuple[float, float]) -> float:
    """How far one is from the other, as a share of what is asked for; 0 where they overlap."""
    return max(tempo[0] - asked[1], asked[0] - tempo[1], 0.0) / asked[0]


def _bpm(tempo: tuple[float, float]) -> str:
    low, high = tempo
    return f"{low:g} BPM" if low == high else f"{low:g} to {high:g} BPM"


def _key_distance(key: Key, asked: Key) -> float:
    """Steps on the circle of fifths between their signatures, and half a step between major and minor."""
    steps = FIFTHS * (_relative_major(key) - _relative_major(asked)) % 12
    return min(steps, 12 - steps) + 0.5 * (key.mode != asked.mode)


def _relative_major(key: Key) -> int:
    return (key.tonic + (0 if key.mode == "major" else 3)) % 12
