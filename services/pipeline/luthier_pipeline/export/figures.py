"""Figures of a data set: what its card and its pictures show, counted from the manifest."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.licences import UNSTATED
from luthier_pipeline.export.columns import genres, key_name, subset

OFF: Final = "off: "
"""Begins what a lineage says in place of a version where a provider of tags was switched off, and why."""

NOT_RECORDED: Final = "not recorded"


@dataclass
class Group:
    """Clips of a subset or a split: how many, of how many songs, seconds together, and in how many clips what is."""

    clips: int = 0
    songs: set[str] = field(default_factory=set)
    duration_s: float = 0.0
    instruments: Counter[str] = field(default_factory=Counter)
    genres: Counter[str] = field(default_factory=Counter)

    def add(self, row: DatasetRow) -> None:
        """Counts a clip."""
        self.clips += 1
        self.songs.add(row.song_fingerprint)
        self.duration_s += row.facts.duration_s
        self.instruments.update({fact.instrument for fact in row.facts.instruments})
        self.genres.update(set(genres(row)))


@dataclass
class Figures:
    """Counts over all clips of a data set. Counters count clips, `tempi` has the known ones in BPM."""

    every: Group = field(default_factory=Group)
    subsets: dict[str, Group] = field(default_factory=dict)
    splits: dict[str, Group] = field(default_factory=dict)
    tempi: list[float] = field(default_factory=list)
    estimated_tempi: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    estimated_keys: int = 0
    licences: Counter[str] = field(default_factory=Counter)
    unlicensed: int = 0
    """clips of which no licence is stated, or one that is not known"""
    artists: dict[str, Group] = field(default_factory=dict)
    tags: Counter[tuple[str, str]] = field(default_factory=Counter)
    """of a source of tags and its licence: how many tags"""
    composers: Counter[str] = field(default_factory=Counter)
    """of prompts: how many each composed"""
    versions: dict[str, set[str]] = field(default_factory=dict)
    """of each stage, tool, plugin, SoundFont and model that took part"""
    automatic: int = 0
    """clips that a rule accepted"""
    from_midi: int = 0


def figures(rows: Iterable[DatasetRow]) -> Figures:
    """Counts the clips of a data set."""
    found = Figures()
    for row in rows:
        facts = row.facts
        for group in (
            found.every,
            found.subsets.setdefault(subset(row), Group()),
            found.splits.setdefault(row.split, Group()),
            found.artists.setdefault(row.source.song.artist, Group()),
        ):
            group.add(row)
        if facts.tempo.tempo_bpm:
            found.tempi.append(facts.tempo.tempo_bpm)
            found.estimated_tempi += facts.tempo.source == FACT_SOURCE_AUDIO
        if key := key_name(facts.key):
            found.keys[key] += 1
            found.estimated_keys += facts.key.source == FACT_SOURCE_AUDIO
        stated = set(row.licences) - UNSTATED
        found.licences.update(stated)
        found.unlicensed += not stated or not UNSTATED.isdisjoint(row.licences)
        found.tags.update((tag.source, tag.licence) for tag in row.tags)
        found.composers.update(name or NOT_RECORDED for name in row.composers)
        for name, version in row.lineage.versions.items():
            if not version.startswith(OFF):
                found.versions.setdefault(name, set()).add(version)
        found.automatic += row.verdict.automatic
        found.from_midi += bool(row.source.midi_sha256)
    return found


def most_common(counter: Counter[str], most: int) -> Sequence[tuple[str, int]]:
    """The most frequent, those that are equally frequent by name: `Counter.most_common` has them as they came."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most]
