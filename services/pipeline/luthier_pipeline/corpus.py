"""From a folder of `Artist/Title.mid` to the corpus manifest: path, digest, fingerprint, duplicates, licence.

Duplicates share a fingerprint; the file with the shortest path (then the first by name) stays, the others name it. A
file that cannot be used is kept in the manifest with its reason, so that files = songs + duplicates + failures.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier_kit.artifacts import Artifacts
from luthier_kit.client import Client
from luthier_kit.errors import InvalidRequest, LuthierError
from luthier_pipeline.failure import Failure, fatal
from luthier_pipeline.workers import leaving_at_once

MAX_MIDI_BYTES = 8 << 20  # as InspectMidiRequest says
MANIFEST_VERSION = 1
INSPECTED_AT_ONCE = 8


@dataclass(frozen=True)
class Entry:
    """A MIDI file of the corpus. `duplicate_of` names another path; `failure` says why it cannot be used."""

    path: str
    artist: str = ""
    title: str = ""
    key: str = ""
    sha256: str = ""
    size_bytes: int = 0
    fingerprint: str = ""
    duration_s: float = 0.0
    duplicate_of: str = ""
    failure: Failure | None = None
    computed: bool = False

    @property
    def midi(self) -> ArtifactRef:
        """The MIDI file in the store."""
        return ArtifactRef(key=self.key, sha256=self.sha256, size_bytes=self.size_bytes, media_type="audio/midi")


@dataclass(frozen=True)
class Corpus:
    """All files of a folder. `licence` is what the operator says of it."""

    entries: tuple[Entry, ...]
    licence: str = "unknown"

    @property
    def songs(self) -> list[Entry]:
        """Files to render."""
        return [entry for entry in self.entries if not entry.failure and not entry.duplicate_of]

    @property
    def duplicates(self) -> list[Entry]:
        """Files with the notes of another one."""
        return [entry for entry in self.entries if entry.duplicate_of]

    @property
    def failures(self) -> list[Failure]:
        """Why files cannot be used."""
        return [entry.failure for entry in self.entries if entry.failure]

    @property
    def counts(self) -> dict[str, int]:
        """files = songs + duplicates + failed."""
        counts = {"songs": len(self.songs), "duplicates": len(self.duplicates), "failed": len(self.failures)}
        return {"files": len(self.entries), **counts}

    def to_json(self) -> bytes:
        """The manifest; the same corpus gives the same bytes."""
        rows = [{k: v for k, v in asdict(entry).items() if k != "computed"} for entry in self.entries]
        document = {"version": MANIFEST_VERSION, "licence": self.licence, "files": rows}
        return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Corpus":
        """Reads a manifest. Raises InvalidRequest when it is none."""
        try:
            document = json.loads(data)
            rows = document["files"]
            if document["version"] != MANIFEST_VERSION:
                raise ValueError(f"version {document['version']}")
            entries = tuple(Entry(**{**row, "failure": row["failure"] and Failure(**row["failure"])}) for row in rows)
            return cls(entries, document["licence"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"not a corpus manifest: {error}", reason="MANIFEST_INVALID") from None


def midi_files(folder: Path) -> list[Path]:
    """All .mid and .midi files below a folder, by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi") and path.is_file())


def ingest(
    folder: Path, store: Artifacts, renderer: Client, *, licence: str, patience_s: float, tick: Callable[[], None]
) -> Corpus:
    """Stores and inspects every file of a folder. `tick` is called after each."""

    def one(path: Path) -> Entry:
        entry = _entry(path, folder, store, renderer, patience_s)
        tick()
        return entry

    with leaving_at_once(ThreadPoolExecutor(INSPECTED_AT_ONCE, thread_name_prefix="file"), renderer.close) as pool:
        return Corpus(_resolve_duplicates(pool.map(one, midi_files(folder))), licence)


def _entry(path: Path, folder: Path, store: Artifacts, renderer: Client, patience_s: float) -> Entry:
    name = path.relative_to(folder).as_posix()
    entry = Entry(path=name, artist=path.parent.name if path.parent != folder else "", title=path.stem)
    try:
        entry = _stored(entry, path, store)
        request = rendering.InspectMidiRequest(midi=entry.midi)
        facts = renderer.call("InspectMidi", request, timeout_s=120, patience_s=patience_s)
    except LuthierError as error:
        if fatal(error):
            raise
        return replace(entry, failure=Failure(name, "ingest", error.reason, str(error)))
    return replace(
        entry,
        fingerprint=facts.fingerprint,
        duration_s=round(facts.duration_s, 3),
        computed=not facts.action.reused,
    )


def _stored(entry: Entry, path: Path, store: Artifacts) -> Entry:
    try:
        if (size := path.stat().st_size) > MAX_MIDI_BYTES:
            bound = f"must have at most {MAX_MIDI_BYTES} bytes, got {size}"
            raise InvalidRequest(reason="MIDI_TOO_LARGE", violations=[("midi", bound)])
        ref = store.put_file("midi", path, media_type="audio/midi")
    except OSError as error:
        raise InvalidRequest(f"cannot be read: {error.strerror}", reason="FILE_UNREADABLE") from None
    return replace(entry, key=ref.key, sha256=ref.sha256, size_bytes=ref.size_bytes)


def _resolve_duplicates(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    rows = list(entries)
    kept: dict[str, str] = {}
    for entry in sorted((e for e in rows if not e.failure), key=lambda e: (len(e.path), e.path)):
        kept.setdefault(entry.fingerprint, entry.path)
    return tuple(
        entry
        if entry.failure or kept[entry.fingerprint] == entry.path
        else replace(entry, duplicate_of=kept[entry.fingerprint])
        for entry in rows
    )
