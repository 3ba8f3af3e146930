"""Figures of a corpus: what `luthier inspect` counts, for its report and as JSON.

Music is counted over the songs that would be rendered. What is not known is counted as unknown, never guessed: a tempo
is the one that holds longest where note onsets fall on its grid and the file states one at all; a key is what rendering
found in the notes above its margin.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Final, TypeVar

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, Timeline
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.rendering.v1.rendering_pb2 import InspectMidiResponse
from luthier_pipeline.corpus import Corpus
from luthier_pipeline.same_song import groups, why_kept

V = TypeVar("V", float, str)
BIN_BPM: Final = 10
MIN_ON_GRID: Final = 0.6  # share of the onsets from which on analysis trusts a tempo map, too
TONICS: Final = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MODES: Final = {MODE_MAJOR: "major", MODE_MINOR: "minor"}
LENGTHS_MIN: Final = (1, 2, 3, 4, 5, 6, 8, 10)
"""Bounds of the histogram of lengths, minutes."""


@dataclass(frozen=True)
class Music:
    """What the notes of a file say. `tempo_bpm` and `key` are None where unknown; `meter` is the one that holds
    longest; `instruments` has the seconds in which each sounds; `faults` how often each occurs."""

    tempo_bpm: float | None
    tempo_changes: bool
    key: str | None
    meter: str
    meter_changes: bool
    instruments: Mapping[str, float]
    faults: Mapping[str, int]

    @classmethod
    def of(cls, facts: InspectMidiResponse) -> "Music":
        song = facts.timeline
        tempi = _held([(one.start_s, one.tempo_bpm) for one in song.tempos], facts.duration_s)
        meters = _held([(one.start_s, f"{one.numerator}/{one.denominator}") for one in song.meters], facts.duration_s)
        return cls(
            tempo_bpm=round(_longest(tempi), 2) if tempi and _trusted(song) else None,
            tempo_changes=len(tempi) > 1,
            key=f"{facts.key.tonic} {MODES[facts.key.mode]}" if facts.HasField("key") else None,
            meter=_longest(meters) if meters else "unknown",
            meter_changes=len(meters) > 1,
            instruments={
                one.instrument: round(sum(span.end_s - span.start_s for span in one.spans), 3)
                for one in song.instruments
            },
            faults={fault.reason: fault.count for fault in facts.faults},
        )


def _held(changes: Sequence[tuple[float, V]], end_s: float) -> dict[V, float]:
    """Seconds for which each value holds; changes after the end hold for none and are left out."""
    held: dict[V, float] = {}
    starts = [*(start_s for start_s, _ in changes), max(end_s, changes[-1][0]) if changes else end_s]
    for (start_s, until_s), (_, value) in zip(pairwise(starts), changes, strict=True):
        if start_s < end_s or start_s == 0:
            held[value] = held.get(value, 0.0) + until_s - start_s
    return held


def _longest(held: Mapping[V, float]) -> V:
    return max(held, key=lambda value: held[value])


def _trusted(song: Timeline) -> bool:
    onsets, on_grid = sum(bar.onsets for bar in song.bars), sum(bar.onsets_on_grid for bar in song.bars)
    return not song.tempo_is_default and onsets > 0 and on_grid / onsets >= MIN_ON_GRID


@dataclass
class CorpusMusic:
    """What the notes of a corpus say, by path, and what its faults mean, by reason."""

    files: dict[str, Music] = field(default_factory=dict)
    fault_messages: dict[str, str] = field(default_factory=dict)

    def add(self, file: CorpusFile, facts: InspectMidiResponse) -> None:
        """Keeps what is counted of a file that was inspected."""
        self.files[file.path] = Music.of(facts)
        self.fault_messages |= {fault.reason: fault.message for fault in facts.faults}


@dataclass(frozen=True)
class Bin:
    """How many songs have a value: `name` as it is written."""

    name: str
    songs: int


@dataclass(frozen=True)
class Instrument:
    """Of how many songs it is a part, and in which share of the music's time it sounds, 0 to 1."""

    name: str
    songs: int
    time_share: float


@dataclass(frozen=True)
class Member:
    """A file that another one stands for or shares a split with. `relation` is `duplicate`, `near-duplicate` or
    `version`; `why_kept` says why the other one is rendered, empty where both are."""

    path: str
    relation: str
    similarity: float
    rendered: bool
    why_kept: str


@dataclass(frozen=True)
class Group:
    """Files that are one song: they are in one split, and `kept` is rendered."""

    kept: str
    members: list[Member]


@dataclass(frozen=True)
class Fault:
    """A fault that does not prevent rendering: in how many files, how often in all."""

    reason: str
    message: str
    files: int
    count: int


@dataclass(frozen=True)
class Skipped:
    """What was not taken, and what to do so that it is."""

    path: str
    why: str


@dataclass(frozen=True)
class Figures:
    """A corpus in numbers. Durations are in seconds; the bins of `tempi`, `keys`, `meters` and `lengths` are in their
    order, and what is unknown is counted apart."""

    files: int
    songs: int
    duplicates: int
    near_duplicates: int
    failed: int
    artists: int
    duration_s: float
    files_duration_s: float
    shortest_s: float
    median_s: float
    longest_s: float
    lengths: list[Bin]
    tempi: list[Bin]
    tempo_unknown: int
    tempo_changes: int
    keys: list[Bin]
    key_unknown: int
    meters: list[Bin]
    meter_changes: int
    instruments: list[Instrument]
    groups: list[Group]
    faults: list[Fault]
    skipped: list[Skipped] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


def figures(corpus: Corpus, music: CorpusMusic, skipped: Iterable[Skipped] = ()) -> Figures:
    """Counts a corpus of which all usable files were added to `music`."""
    counts, songs = corpus.counts, corpus.songs
    usable = [file for file in corpus.manifest.files if not file.HasField("failure")]
    known = [music.files[song.path] for song in songs]
    lengths_s = sorted(song.duration_s for song in songs) or [0.0]
    total_s = sum(lengths_s)
    sounding: dict[str, float] = {}
    playing: Counter[str] = Counter()
    for one in known:
        for name, sounds_s in one.instruments.items():
            sounding[name] = sounding.get(name, 0.0) + sounds_s
        playing.update(one.instruments.keys())
    faults, occurrences = Counter[str](), Counter[str]()
    for file in usable:
        occurrences.update(music.files[file.path].faults)
        faults.update(music.files[file.path].faults.keys())
    tempi = [one.tempo_bpm for one in known if one.tempo_bpm is not None]
    keys = Counter(one.key for one in known if one.key)
    return Figures(
        files=counts.files,
        songs=counts.songs,
        duplicates=counts.duplicates,
        near_duplicates=counts.near_duplicates,
        failed=counts.failed,
        artists=len({song.artist for song in songs if song.artist}),
        duration_s=round(total_s, 3),
        files_duration_s=round(sum(file.duration_s for file in usable), 3),
        shortest_s=lengths_s[0],
        median_s=lengths_s[len(lengths_s) // 2],
        longest_s=lengths_s[-1],
        lengths=_length_bins([song.duration_s / 60 for song in songs]),
        tempi=_tempo_bins(tempi),
        tempo_unknown=len(known) - len(tempi),
        tempo_changes=sum(one.tempo_changes for one in known),
        keys=[Bin(name, keys[name]) for mode in MODES.values() for tonic in TONICS for name in [f"{tonic} {mode}"]],
        key_unknown=len(known) - keys.total(),
        meters=[Bin(name, count) for name, count in _most_common(Counter(one.meter for one in known))],
        meter_changes=sum(one.meter_changes for one in known),
        instruments=[
            Instrument(name, count, round(sounding[name] / total_s, 4) if total_s else 0.0)
            for name, count in _most_common(playing)
        ],
        groups=song_groups(corpus),
        faults=[
            Fault(reason, music.fault_messages[reason], count, occurrences[reason])
            for reason, count in _most_common(faults)
        ],
        skipped=list(skipped),
    )


def _most_common(counter: Counter[str]) -> list[tuple[str, int]]:
    """Largest first, then by name."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _tempo_bins(tempi: Sequence[float]) -> list[Bin]:
    """Steps of BIN_BPM from the slowest to the fastest, empty ones too."""
    counts = Counter(int(tempo // BIN_BPM) * BIN_BPM for tempo in tempi)
    if not counts:
        return []
    return [Bin(f"{low}-{low + BIN_BPM}", counts[low]) for low in range(min(counts), max(counts) + 1, BIN_BPM)]


def _length_bins(lengths_min: Sequence[float]) -> list[Bin]:
    edges = [0, *LENGTHS_MIN, float("inf")]
    names = [
        f"under {edges[1]}",
        *(f"{low}-{high}" for low, high in pairwise(LENGTHS_MIN)),
        f"{LENGTHS_MIN[-1]} and more",
    ]
    return [
        Bin(name, sum(low <= length < high for length in lengths_min))
        for name, (low, high) in zip(names, pairwise(edges), strict=True)
    ]


def song_groups(corpus: Corpus) -> list[Group]:
    """Files that are one song, the largest groups first."""
    files = {file.path: file for file in corpus.manifest.files if not file.HasField("failure")}
    links = [
        (file.path, other)
        for file in files.values()
        for other in (file.duplicate_of, file.near_duplicate_of, file.other_version_of)
        if other
    ]
    rendered = {song.path for song in corpus.songs}
    found = []
    for paths in groups(links):
        kept = min((path for path in paths if path in rendered), key=_plainest(files), default=paths[0])
        members = [_member(files[path], files, rendered) for path in paths if path != kept]
        found.append(Group(kept, members))
    return sorted(found, key=lambda group: (-len(group.members), group.kept))


def _plainest(files: Mapping[str, CorpusFile]) -> Callable[[str], tuple[bool, int, str]]:
    """Of the members of a group that are rendered the one that the others name comes first."""
    return lambda path: (bool(files[path].near_duplicate_of or files[path].other_version_of), len(path), path)


def _member(file: CorpusFile, files: Mapping[str, CorpusFile], rendered: set[str]) -> Member:
    is_rendered = file.path in rendered
    if file.duplicate_of:
        return Member(file.path, "duplicate", 1.0, is_rendered, "has the same notes and the plainer path")
    if file.near_duplicate_of:
        why = "" if is_rendered else why_kept(files[file.near_duplicate_of], file)
        return Member(file.path, "near-duplicate", file.similarity, is_rendered, why)
    return Member(file.path, "version", 0.0, is_rendered, "")
