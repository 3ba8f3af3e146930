"""One song is one song: which files of a corpus are the same one, which of them stays, and which share a split.

Three degrees: files with the same notes (the fingerprint), near-duplicates (by their signatures), and files that the
folder names as versions of one song, `Title.1.mid` or `Title.midi` beside `Title.mid`, which may well be different
music.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier_kit.store import digest_of

if TYPE_CHECKING:
    from luthier_pipeline.near_duplicates import Sketches

VERSION: Final = "1"  # raised whenever other files would be found to be one song, or another of them would stay
MOST_RELATED: Final = 100
"""Fingerprints that a clip's source may name (ClipSource)."""
_VERSION: Final = re.compile(r"(?:\.\d{1,3}|[ _-]?\(\d{1,3}\)|_\d{1,3}|(?: -)? copy(?: \d{1,3})?)$", re.IGNORECASE)
"""Endings that file managers, downloads and the Lakh MIDI data set give a name that is taken."""


@dataclass(frozen=True)
class Earlier:
    """What a collection had before: songs that the folder has no more, and the fingerprints of all that were to be
    rendered."""

    songs: Sequence[CorpusFile] = ()
    rendered: frozenset[str] = frozenset()


NOTHING_EARLIER: Final = Earlier()


@dataclass(frozen=True)
class Rule:
    """A reason why one near-duplicate is better than another: by what, larger first, and its words."""

    words: str
    value: Callable[[CorpusFile], float]


RULES: Final = (
    Rule("has more parts", lambda file: file.parts),
    Rule("has more notes", lambda file: file.notes),
    Rule("is longer", lambda file: file.duration_s),
    Rule("has the shorter path", lambda file: -len(file.path)),
)
"""In this order, then the first by name. What the collection has already goes before all of them."""
BEFORE: Final = "was rendered before, or the other is a medley"


def found_by(configuration: str) -> str:
    """Digest of what decides which files are one song: the configuration of the server that inspected them, and the
    rules here; empty where that is not known."""
    return digest_of({"version": VERSION, "inspected": configuration}) if configuration else ""


def mark(files: Sequence[CorpusFile], sketches: "Sketches | None" = None, earlier: Earlier = NOTHING_EARLIER) -> None:
    """Says in each of some files (none of them a failure) what it is to the others: `duplicate_of`, `near_duplicate_of`
    with `similarity`, `other_version_of`, `related_fingerprints`.

    Of files with the same fingerprint the one with the shortest path (then the first by name) stays. Of near-duplicates
    one stays that was rendered before, so that a folder which grows keeps its clips, then the best by RULES. A medley,
    which holds songs that have nothing in common, is the last to stay: no song is dropped for it. A file that is no
    near-duplicate of any that stay stays as well, such as two songs that only a medley connects.
    `related_fingerprints` are those of all that are connected: a medley may not be in another split than its songs.
    """
    from luthier_pipeline.near_duplicates import SAME, Sketches, near_duplicates, similarity  # numpy: slow to import

    songs: dict[str, CorpusFile] = {}
    for file in sorted(files, key=lambda file: (len(file.path), file.path)):
        original = songs.setdefault(file.fingerprint, file)
        file.duplicate_of = "" if original is file else original.path

    sketches = sketches or Sketches.of({})
    known = sorted(sketches.outlines.keys() & {*songs, *(song.fingerprint for song in earlier.songs)})
    outlines = [sketches.outlines[fingerprint] for fingerprint in known]
    pairs = near_duplicates(outlines, lambda place: sketches.get(known[place]))

    def alike_by(one: str, other: str) -> float:
        first, second = sketches.get(one), sketches.get(other)
        return similarity(first, second) if first and second else 0.0

    alike = [(known[pair.first], known[pair.second]) for pair in pairs]
    mixed = medleys(alike, sketches)
    for file in files:
        file.near_duplicate_of, file.similarity = "", 0.0
    for group in groups(alike):
        members = [songs[fingerprint] for fingerprint in group if fingerprint in songs]
        members.sort(key=lambda file: (file.fingerprint in mixed, _rank(file, earlier)))
        kept = list[CorpusFile]()
        for file in members:
            alike_kept = [(alike_by(other.fingerprint, file.fingerprint), other) for other in kept]
            most, best = max(alike_kept, key=lambda found: found[0], default=(0.0, file))
            if most < SAME:
                kept.append(file)
            else:
                file.near_duplicate_of, file.similarity = best.path, round(most, 3)

    versions = other_versions(files)
    for file in files:
        file.other_version_of = versions.get(file.path, "")
    by_path = {file.path: file.fingerprint for file in files}
    named = [(by_path[path], by_path[original]) for path, original in versions.items()]
    related = {fingerprint: group for group in groups([*alike, *named]) for fingerprint in group}
    for file in files:
        group = related.get(file.fingerprint, [])
        file.related_fingerprints[:] = [one for one in group if one != file.fingerprint][:MOST_RELATED]


def medleys(alike: Iterable[tuple[str, str]], sketches: "Sketches") -> frozenset[str]:
    """The fingerprints of files that are near-duplicates of two which have nothing in common, neither of them longer:
    what two medleys have in common is a song."""
    from luthier_pipeline.near_duplicates import APART, TOO_FEW, overlap

    others = defaultdict[str, list[str]](list)
    for one, other in alike:
        others[one].append(other)
        others[other].append(one)
    found = set()
    for fingerprint, members in others.items():
        own = sketches.get(fingerprint)
        most = own.longs if own else 0.0
        known = [sketch for other in sorted(members) if (sketch := sketches.get(other))]
        parts = [sketch for sketch in known if sketch.long.size >= TOO_FEW and sketch.longs <= most]
        parts.sort(key=lambda sketch: sketch.longs)
        if any(overlap(parts[0], other) < APART for other in parts[1:]):  # the smallest: a song, not another medley
            found.add(fingerprint)
    return frozenset(found)


def _rank(file: CorpusFile, earlier: Earlier) -> tuple[object, ...]:
    """Sorts the best of near-duplicates first."""
    return (file.fingerprint not in earlier.rendered, *(-rule.value(file) for rule in RULES), file.path)


def why_kept(best: CorpusFile, other: CorpusFile) -> str:
    """By which rule a file was kept rather than a near-duplicate of it."""
    for rule in RULES:
        if rule.value(best) != rule.value(other):
            return rule.words if rule.value(best) > rule.value(other) else BEFORE
    return "is the first by name" if best.path < other.path else BEFORE


def other_versions(files: Iterable[CorpusFile]) -> dict[str, str]:
    """Of each path that is another one of the same folder but for an ending such as `.1`, that of its format (`.mp3`
    beside `.flac`) or both, that other path: the first by name of those without `.1`."""
    stems = {path: posixpath.splitext(path)[0] for path in sorted(file.path for file in files)}
    first = dict[str, str]()
    for path, stem in stems.items():
        first.setdefault(stem, path)
    originals = {path: first.get(_VERSION.sub("", stem), first[stem]) for path, stem in stems.items()}
    return {path: original for path, original in originals.items() if original != path}


def groups(links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The connected ones of linked names, each group sorted, by their first names."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = parent[above] = parent.setdefault(above, above)
            name = above
        return name

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    members: dict[str, list[str]] = {}
    for name in sorted(parent):
        members.setdefault(root(name), []).append(name)
    return list(members.values())
