"""Solo clips: which passages of which parts become the subset `monophonic`, and what is known of a part alone.

Rendering finds the passages in which a part really plays by the notes alone, so the choice is made before anything is
rendered, over the whole corpus: it follows from the corpus, the quota and the length of clips, whatever was rendered
first, however many shards there are, and again when a run goes on.

Of each instrument about as many seconds are chosen as the quota says. They are spread over strata of key and tempo: the
stratum that has least is served next, with a passage of the song that has given least; digests of the content decide
between equals. Near-duplicates, and files whose names say that they are the same song, count as one song.
"""

import hashlib
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from luthier.common.v1.common_pb2 import MODE_MAJOR, Timeline
from luthier.pipeline.v1.pipeline_pb2 import ChosenPart, CorpusFile, SoloChoice
from luthier.rendering.v1.rendering_pb2 import FindSolosResponse, SoloPart, SoloPassage

POLYPHONIC: Final = "polyphonic"
MONOPHONIC: Final = "monophonic"
SUBSETS: Final = (POLYPHONIC, MONOPHONIC)
TEMPO_EDGES_BPM: Final = (70.0, 90.0, 110.0, 130.0, 160.0)  # between strata, quarter notes per minute
SONG_SHARE: Final = 0.2  # of an instrument's quota that a song gives at most, but one passage always
MAX_PART: Final = 4095  # that ClipSource can name
UNKNOWN: Final = "unknown"
CHOICE_VERSION: Final = "1"  # raised whenever other passages would be chosen among the same ones


@dataclass(frozen=True)
class Candidate:
    """A passage that may be chosen: of which song (`song` is its fingerprint, `group` the smallest one among those that
    share its split) and part, from when to when in seconds, and its stratum; `key` as in "D minor", `tempo_bpm` in
    quarter notes per minute, 0 = unknown."""

    song: str
    group: str
    midi_sha256: str
    part: int
    start_s: float
    end_s: float
    instrument: str
    key: str
    tempo_bpm: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def stratum(self) -> tuple[str, int]:
        """Its key, and the number of its range of tempi; -1 = unknown."""
        return self.key, bisect(TEMPO_EDGES_BPM, self.tempo_bpm) if self.tempo_bpm else -1

    @cached_property
    def digest(self) -> str:
        """Decides between equals: of the content, never of names or order."""
        return _digest(f"{self.song}/{self.part}/{self.start_s:.3f}")


Chosen = Mapping[str, Mapping[int, frozenset[float]]]
"""Of MIDI files by SHA-256, of their parts, the beginnings in seconds of the passages that were chosen."""


def candidates_of(song: CorpusFile, found: FindSolosResponse) -> list[Candidate]:
    """The passages of a song."""
    group = min([song.fingerprint, *song.related_fingerprints])
    return [
        Candidate(
            song.fingerprint, group, song.sha256, part.part, passage.span.start_s, passage.span.end_s,
            part.activity.instrument, _key(passage), passage.tempo_bpm,
        )
        for part in found.parts
        if part.part <= MAX_PART
        for passage in part.passages
    ]  # fmt: skip


def choose(candidates: Iterable[Candidate], quota_s: float) -> list[Candidate]:
    """About `quota_s` seconds of each instrument, as even over strata and songs as there are candidates for it."""
    of_instrument: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        of_instrument[candidate.instrument].append(candidate)
    return [one for _, group in sorted(of_instrument.items()) for one in _Choice(group, quota_s).made()]


def by_song(chosen: Iterable[Candidate]) -> Chosen:
    """Where each song's pipeline finds what was chosen of it."""
    starts: dict[str, dict[int, set[float]]] = defaultdict(lambda: defaultdict(set))
    for one in chosen:
        starts[one.midi_sha256][one.part].add(one.start_s)
    return {song: {part: frozenset(own) for part, own in parts.items()} for song, parts in starts.items()}


def as_choice(chosen: Chosen, question: str, searched: int) -> SoloChoice:
    """A choice as it is stored."""
    parts = [
        ChosenPart(midi_sha256=song, part=part, starts_s=sorted(starts))
        for song, parts in chosen.items()
        for part, starts in parts.items()
    ]
    return SoloChoice(question=question, searched=searched, parts=parts)


def of_choice(stored: SoloChoice) -> Chosen:
    """A choice that was stored."""
    chosen: dict[str, dict[int, frozenset[float]]] = defaultdict(dict)
    for one in stored.parts:
        chosen[one.midi_sha256][one.part] = frozenset(one.starts_s)
    return dict(chosen)


@dataclass
class _Choice:
    """The choice among the passages of one instrument."""

    candidates: list[Candidate]
    quota_s: float
    _of_stratum: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))  # seconds taken
    _of_group: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _taken: dict[str, list[Candidate]] = field(default_factory=lambda: defaultdict(list))  # by group

    def made(self) -> list[Candidate]:
        left: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
        for candidate in sorted(self.candidates, key=lambda one: one.digest):
            left[candidate.stratum].append(candidate)
        chosen: list[Candidate] = []
        total_s = 0.0
        while left:
            stratum = min(left, key=lambda one: (self._of_stratum[one], _digest(f"{one}")))
            fitting = [one for one in left[stratum] if self._fits(one)]
            if not fitting:
                del left[stratum]
                continue
            one = min(fitting, key=lambda one: (self._of_group[one.group], one.digest))
            if total_s and total_s + one.length_s / 2 > self.quota_s:  # without it the quota is met more closely
                break
            left[stratum] = [other for other in fitting if other is not one]
            self._of_stratum[stratum] += one.length_s
            self._of_group[one.group] += one.length_s
            self._taken[one.group].append(one)
            chosen.append(one)
            total_s += one.length_s
        return chosen

    def _fits(self, candidate: Candidate) -> bool:
        """A song gives no more than its share; and nothing twice, as parts that double each other or copies would."""
        given_s = self._of_group[candidate.group]
        if given_s and given_s + candidate.length_s > SONG_SHARE * self.quota_s:
            return False
        taken = self._taken[candidate.group]
        return all(one.end_s <= candidate.start_s or candidate.end_s <= one.start_s for one in taken)


def chosen_passages(part: SoloPart, starts_s: frozenset[float]) -> list[SoloPassage]:
    """The passages of a part that were chosen, in order of time."""
    return [passage for passage in part.passages if passage.span.start_s in starts_s]


def solo_timeline(song: Timeline, part: SoloPart, passages: Iterable[SoloPassage]) -> Timeline:
    """What is known of a part alone: its own activity and, in its passages, its own pitch classes. Tempo map, meters
    and bars with their onsets are the song's, which prove each other."""
    timeline = Timeline(solo=True)
    timeline.MergeFrom(song)
    del timeline.instruments[:]
    timeline.instruments.append(part.activity)
    for bar in timeline.bars:
        bar.pitch_class_weights[:] = [0.0] * 12
    for passage in passages:
        weights = passage.pitch_class_weights
        for index in range(len(weights) // 12):
            timeline.bars[passage.first_bar + index].pitch_class_weights[:] = weights[12 * index : 12 * index + 12]
    return timeline


def _key(passage: SoloPassage) -> str:
    if not passage.key.tonic:
        return UNKNOWN
    return f"{passage.key.tonic} {'major' if passage.key.mode == MODE_MAJOR else 'minor'}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
