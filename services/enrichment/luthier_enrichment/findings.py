"""What providers find, and how the findings of a song become one answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


@dataclass
class _Drawer:
    kept: dict[str, Tag] = field(default_factory=dict)
    vocal: int = 0


def merge(found: Iterable[tuple[str, str, Finding]]) -> Merged:
    """Merges (provider, licence, finding): equal words become one, the heaviest; vocal words and noise go."""
    drawer = _Drawer()
    for provider, licence, finding in found:
        for raw in finding.tags if finding.state is State.MATCHED else ():
            _put(drawer, raw, provider, licence)
    heaviest = sorted(drawer.kept.values(), key=lambda tag: (-tag.weight, tag.text))
    return Merged(tuple(heaviest[:MAX_TAGS]), drawer.vocal)


def _put(drawer: _Drawer, raw: RawTag, provider: str, licence: str) -> None:
    if is_vocal(raw.text):
        drawer.vocal += 1
        return
    if is_noise(raw.text):
        return
    word = classify(raw.text)
    kind = raw.kind if word.kind == "other" and raw.kind in KINDS else word.kind
    weight = min(1.0, max(0.0, raw.weight))
    source = clean(raw.source, 64) if raw.source else ""
    tag = Tag(
        word.text, kind, weight, f"{provider}:{source}" if source else provider, clean(raw.licence, 200) or licence
    )
    known = drawer.kept.get(word.text)
    if known is None or weight > known.weight:
        drawer.kept[word.text] = tag
