"""What providers find, and how the findings of a song become one answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from luthier_enrichment.names import Name
from luthier_music.vocabulary import KINDS, classify, clean, is_noise, is_vocal

MAX_TAGS = 100
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


@dataclass(frozen=True)
class Merged:
    """Tags heaviest first, and how many spoke of voices and were dropped."""

    tags: tuple[Tag, ...] = ()
    dropped_vocal_tags: int = 0


def merge(found: Iterable[tuple[str, str, Finding]]) -> Merged:
    """Merges (provider, licence, finding): equal words become one, the heaviest; vocal words and noise go."""
    kept: dict[str, Tag] = {}
    vocal = 0
    for provider, licence, finding in found:
        for raw in finding.tags if finding.state is State.MATCHED else ():
            if is_vocal(raw.text):
                vocal += 1
            elif not is_noise(raw.text):
                tag = _understood(raw, provider, licence)
                if tag.text not in kept or tag.weight > kept[tag.text].weight:
                    kept[tag.text] = tag
    heaviest = sorted(kept.values(), key=lambda tag: (-tag.weight, tag.text))
    return Merged(tuple(heaviest[:MAX_TAGS]), vocal)


def _understood(raw: RawTag, provider: str, licence: str) -> Tag:
    word = classify(raw.text)
    source = clean(raw.source, 64) if raw.source else ""
    return Tag(
        text=word.text,
        kind=raw.kind if word.kind == "other" and raw.kind in KINDS else word.kind,
        weight=min(1.0, max(0.0, raw.weight)),
        source=f"{provider}:{source}" if source else provider,
        licence=clean(raw.licence, 200) or licence,
    )
