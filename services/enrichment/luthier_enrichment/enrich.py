"""Asks the providers about a song and puts their answers together."""

from collections.abc import Mapping
from dataclasses import dataclass

from luthier_enrichment.findings import MAX_FACTS, MAX_VALUE_CHARS, Fact, Finding, Merged, State, merge
from luthier_enrichment.names import Name, clean_artist, clean_title, from_path
from luthier_enrichment.providers.base import Provider
from luthier_music.vocabulary import clean


@dataclass(frozen=True)
class Enriched:
    """What is known about a song, and what each provider said."""

    song: Name
    merged: Merged
    facts: tuple[Fact, ...]
    findings: Mapping[str, Finding]

    @property
    def is_complete(self) -> bool:
        """No provider failed for now: the answer may be remembered."""
        return not any(finding.state is State.FAILED for finding in self.findings.values())


def cleaned(song: Name, path: str) -> Name:
    """The song's name: what the caller says, else what the path says."""
    in_path = from_path(path).name
    artist = clean_artist(song.artist) or in_path.artist
    return Name(artist, clean_title(song.title, artist) or in_path.title)


def enrich(song: Name, path: str, providers: Mapping[str, Provider]) -> Enriched:
    """Asks every provider given; those that are off say so."""
    name = cleaned(song, path)
    findings = {
        key: Finding(State.OFF, reason) if (reason := provider.off_because()) else provider.find(name, path)
        for key, provider in providers.items()
    }
    merged = merge(
        ((key, providers[key].licence, finding) for key, finding in findings.items()),
        names=(name, Name(from_path(path).featured)),
    )
    facts = [
        Fact(fact.name, clean(fact.value, MAX_VALUE_CHARS), key, fact.licence or providers[key].licence)
        for key, finding in findings.items()
        for fact in finding.facts
    ]
    return Enriched(name, merged, tuple(facts[:MAX_FACTS]), findings)
