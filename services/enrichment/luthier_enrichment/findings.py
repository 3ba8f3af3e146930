"""What providers find, and how the findings of a song become one answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from luthier_enrichment.names import Name, holds_name, is_name, is_of_names
from luthier_music.vocabulary import KINDS, Word, clean, is_noise, is_vocal, normalise, understand

MAX_TAGS = 100
MAX_UNKNOWN_TAGS = 30  # of them; a person may learn from them, and they must not crowd out what is known
MAX_DROPPED_TAGS = 100
MAX_RAW_TAGS = 1000  # of one provider, the heaviest; a sheet may hold a million rows of one song
MAX_FACTS = 50
MAX_VALUE_CHARS = 200


class State(Enum):
    """Whether a provider spoke."""

    MATCHED = 1
    NO_MATCH = 2
    OFF = 3
    FAILED = 4


@dataclass(frozen=True)
class RawTag:
    """A tag as its provider gives it: untrusted text, weight 0 to 1, perhaps a kind; source and licence may differ
    from the provider's own (a sheet collects from many)."""

    text: str
    weight: float = 1.0
    kind: str = ""
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Fact:
    """A fact about a release, e.g. ("year", "1994")."""

    name: str
    value: str
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Finding:
    """What one provider says of one song. `score` 0 to 1 is kept also when it was too low to accept."""

    state: State
    message: str = ""
    score: float = 0.0
    matched: Name = Name()
    tags: Sequence[RawTag] = ()
    facts: Sequence[Fact] = ()


@dataclass(frozen=True)
class Tag:
    """A tag understood: canonical text, kind, weight 0 to 1, source, licence."""

    text: str
    kind: str
    weight: float
    source: str
    licence: str


class Reason(Enum):
    """Why a tag was dropped: it speaks of voices, says nothing about music, or repeats the artist or the title."""

    VOCAL = 1
    NOISE = 2
    NAME = 3


@dataclass(frozen=True)
class Dropped:
    """A tag that was dropped: its normalised text, why, and its source."""

    text: str
    reason: Reason
    source: str


@dataclass(frozen=True)
class Merged:
    """Tags that are understood, heaviest first, then those of kind `other`, heaviest first; what was dropped; and how
    many of all dropped tags spoke of voices."""

    tags: tuple[Tag, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    dropped_vocal_tags: int = 0


def merge(found: Iterable[tuple[str, str, Finding]], names: Iterable[Name] = ()) -> Merged:
    """Merges (provider, licence, finding): equal words become one, the heaviest; voices, noise and names go.

    names: the song's artist and title and who is featured; the names that a provider matched count as well.
    """
    own = tuple(names)
    kept: dict[str, Tag] = {}
    dropped: dict[Dropped, None] = {}
    vocal = 0
    for provider, licence, finding in found:
        raw_tags = finding.tags if finding.state is State.MATCHED else ()
        for raw in sorted(raw_tags, key=lambda raw: -raw.weight)[:MAX_RAW_TAGS]:
            words = understand(raw.text, raw.kind)
            if reason := _reason_to_drop(raw, words, (*own, finding.matched)):
                vocal += reason is Reason.VOCAL
                dropped[Dropped(normalise(raw.text), reason, _source(raw, provider))] = None
                continue
            for word in words:
                tag = _tag(raw, word, provider, licence)
                if tag.text not in kept or tag.weight > kept[tag.text].weight:
                    kept[tag.text] = tag
    heaviest = sorted(kept.values(), key=lambda tag: (-tag.weight, tag.text))
    unknown = [tag for tag in heaviest if tag.kind == "other"][:MAX_UNKNOWN_TAGS]
    known = [tag for tag in heaviest if tag.kind != "other"][: MAX_TAGS - len(unknown)]
    return Merged((*known, *unknown), tuple(dropped)[:MAX_DROPPED_TAGS], vocal)


def _reason_to_drop(raw: RawTag, words: tuple[Word, ...], names: tuple[Name, ...]) -> Reason | None:
    """Why a tag goes, if it does.

    A provider that states a tag's kind means the word: the genre of "Rock and Roll" may well be rock and roll. Of a
    free tag nobody knows whether it is that or the name, and what is unknown is left out.
    """
    if is_vocal(raw.text):
        return Reason.VOCAL
    if is_noise(raw.text):
        return Reason.NOISE
    if raw.kind:
        return None
    text, kind = normalise(raw.text), words[0].kind
    if (
        is_name(text, names)
        or (kind in ("instrument", "other") and holds_name(text, names))
        or (kind == "other" and is_of_names(text, names))
    ):
        return Reason.NAME
    return None


def _source(raw: RawTag, provider: str) -> str:
    source = clean(raw.source, 64) if raw.source else ""
    return f"{provider}:{source}" if source else provider


def _tag(raw: RawTag, word: Word, provider: str, licence: str) -> Tag:
    return Tag(
        text=word.text,
        kind=raw.kind if word.kind == "other" and raw.kind in KINDS else word.kind,
        weight=min(1.0, max(0.0, raw.weight)),
        source=_source(raw, provider),
        licence=clean(raw.licence, 200) or licence,
    )
