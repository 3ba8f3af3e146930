"""A corpus: its manifest, the series `corpora/<collection>` in which its shards find it, and which songs a shard takes.

An ingest writes a manifest (path, digest, fingerprint, duplicates, near-duplicates, licence) and adds an entry that
names its run. The first corpus of a run holds for all its shards, so that an ingest which was repeated cannot split
them.
"""

import hashlib
import logging
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.pipeline.v1.pipeline_pb2 import (
    NEAR_DUPLICATES_DROP,
    NEAR_DUPLICATES_KEEP,
    PART_STATE_RUNNING,
    CorpusCounts,
    CorpusFile,
    CorpusManifest,
    IngestOutcome,
    NearDuplicates,
    SongFailure,
    WrittenCorpus,
)
from luthier_kit.rpc import (
    Checks,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    LuthierError,
    NotFound,
    Unavailable,
    error_of,
    status_of,
)
from luthier_kit.store import Series, Store
from luthier_pipeline.notes import find_note, folder_of, keep_note
from luthier_pipeline.run_status import INGEST, LONG_DEAD_S, part_series, seconds, silent_s, timestamp
from luthier_pipeline.same_song import NOTHING_EARLIER, Earlier, found_by, mark

if TYPE_CHECKING:
    from luthier_pipeline.near_duplicates import Outline, Sketches

log = logging.getLogger(__name__)
ROOT: Final = "corpora/"
MANIFEST_VERSION: Final = 1
LOOK_EVERY_S: Final = 2.0
SELDOM_S: Final = 30.0
LOOKS_LATE: Final = 0.05
"""A shard that waits looks again after this share of the time that it has waited, LOOK_EVERY_S to SELDOM_S: an ingest
of 100,000 songs takes long, and thousands of shards wait for it."""
ANOTHER_TRY_S: Final = 420.0
"""How long a failed ingest has to begin anew: the Job's next Pod waits 10, 20, 40 … 360 s."""
MAX_SHARDS: Final = 10_000
PARTS: Final = "parts"
PARTS_AT_ONCE: Final = 16
INDEX_ENV: Final = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the Pods of an Indexed Job


@dataclass(frozen=True)
class Corpus:
    """The files of a manifest by what they are: files = songs + duplicates + near-duplicates + failures."""

    manifest: CorpusManifest

    @property
    def songs(self) -> list[CorpusFile]:
        """Files to render."""
        return [
            file
            for file in self.manifest.files
            if not (file.HasField("failure") or file.duplicate_of or self.is_dropped(file))
        ]

    def is_dropped(self, file: CorpusFile) -> bool:
        """Whether a near-duplicate of the file is rendered in its place."""
        return bool(file.near_duplicate_of) and self.manifest.near_duplicates != NEAR_DUPLICATES_KEEP

    @property
    def failures(self) -> list[SongFailure]:
        """Why files cannot be used."""
        return [file.failure for file in self.manifest.files if file.HasField("failure")]

    @property
    def counts(self) -> CorpusCounts:
        files = self.manifest.files
        return CorpusCounts(
            files=len(files),
            songs=len(self.songs),
            duplicates=sum(bool(file.duplicate_of) for file in files),
            near_duplicates=sum(map(self.is_dropped, files)),
            failed=len(self.failures),
        )


def corpus_of(
    files: Iterable[CorpusFile],
    licence: str,
    sketches: "Sketches | None" = None,
    policy: NearDuplicates = NEAR_DUPLICATES_DROP,
    earlier: Earlier = NOTHING_EARLIER,
) -> Corpus:
    """The corpus of inspected files, which are marked as `same_song` says; `sketches` are by fingerprint, those of
    earlier songs as well."""
    manifest = CorpusManifest(version=MANIFEST_VERSION, licence=licence, files=files, near_duplicates=policy)
    usable = [file for file in manifest.files if not file.HasField("failure")]
    here = {file.fingerprint for file in usable}
    elsewhere = sorted((song for song in earlier.songs if song.fingerprint not in here), key=lambda s: s.fingerprint)
    mark(usable, sketches, Earlier(elsewhere, earlier.rendered))
    corpus = Corpus(manifest)
    # a song that was kept once and is dropped now has clips in the collection all the same
    dropped = [file for file in usable if file.fingerprint in earlier.rendered and corpus.is_dropped(file)]
    manifest.earlier.extend(sorted([*elsewhere, *dropped], key=lambda song: song.fingerprint))
    return corpus


def put_manifest(store: Store, corpus: Corpus) -> ArtifactRef:
    """Stores the manifest; the same corpus is the same blob."""
    return store.put("manifests", corpus.manifest)


def read_manifest(store: Store, ref: ArtifactRef) -> Corpus:
    """The corpus of a stored manifest. Raises InvalidRequest MANIFEST_INVALID when it is none."""
    manifest = store.get(CorpusManifest, ref, reason="MANIFEST_INVALID")
    if manifest.version != MANIFEST_VERSION or not manifest.files:
        text = f"{ref.key}: not a corpus manifest: version {manifest.version}, {len(manifest.files)} files"
        raise InvalidRequest(text, reason="MANIFEST_INVALID")
    return Corpus(manifest)


@dataclass(frozen=True)
class StoredCorpus:
    """A corpus that an ingest wrote for a run, or the part of it that a shard takes. `songs` are those of the whole;
    `sheet` is the sheet of tags that lay beside it."""

    run: str
    corpus: Corpus
    manifest: ArtifactRef
    songs: int
    sheet: ArtifactRef | None = None


def ingest_series(store: Store, collection: str) -> Series[IngestOutcome]:
    """What the ingests of a collection came to."""
    return store.series(IngestOutcome, ROOT + collection, _old_outcome)


def newest_corpus(store: Store, collection: str) -> Corpus | None:
    """The collection's newest corpus; None where there is none, or where it cannot be read any more."""
    series = ingest_series(store, collection)
    number, outcome = series.latest() or (0, None)
    while outcome and not outcome.HasField("corpus"):
        number -= 1
        outcome = series.entry(number) if number else None
    try:
        return read_manifest(store, outcome.corpus.manifest) if outcome else None
    except (NotFound, DataLoss, InvalidRequest):
        return None


def earlier_of(corpus: Corpus | None) -> Earlier:
    """What a collection's newest corpus had, and had from those before it."""
    if corpus is None:
        return NOTHING_EARLIER
    songs = [*corpus.manifest.earlier, *corpus.songs]
    return Earlier(songs, frozenset(song.fingerprint for song in songs))


class Known:
    """Files of a collection's newest corpus that need not be inspected again: the server that would inspect them is
    configured as the one that did (`configuration`), the rules of `same_song` are the same, and what was stored of them
    is there."""

    def __init__(self, store: Store, collection: str, corpus: Corpus | None, configuration: str) -> None:
        self.configuration = configuration
        self._store, self._collection = store, collection
        self._outlines: dict[str, Outline] = {}  # as they were read
        self.manifest = corpus.manifest if corpus else CorpusManifest()
        holds = bool(configuration) and self.manifest.configuration == found_by(configuration)
        usable = [file for file in self.manifest.files if holds and not file.HasField("failure")]
        stored = store.blobs.stored({file.key: file.size_bytes for file in usable})
        self._files = {file.path: file for file in usable if file.key in stored}

    def row(self, path: Path, folder: Path) -> CorpusFile | None:
        """What was found out of a file of a folder, when it has the same bytes still."""
        try:
            known = self._files.get(path.relative_to(folder).as_posix())
            found = path.lstat()
            if known is None or not stat.S_ISREG(found.st_mode) or found.st_size != known.size_bytes:
                return None
            with path.open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == known.sha256
        except OSError:
            return None
        return known if same else None

    def outlines(self) -> dict[str, "Outline"]:
        """What near-duplicates are looked for by, of songs that the collection had."""
        from luthier_pipeline.outlines import read_outlines  # numpy: slow to import

        if self.configuration:
            self._outlines = read_outlines(self._store, self._collection, self.configuration)
        return self._outlines

    def keep_outlines(self, outlines: Mapping[str, "Outline"]) -> None:
        """Keeps them for the next ingest; they are those of a server that is configured as this one."""
        from luthier_pipeline.outlines import keep_outlines

        keep_outlines(self._store, self._collection, self.configuration, outlines, self._outlines)

    def corpus_of(self, files: Sequence[CorpusFile], licence: str) -> Corpus:
        """The newest corpus again, where these files are all of it."""
        manifest = CorpusManifest()
        manifest.CopyFrom(self.manifest)
        del manifest.files[:]
        manifest.files.extend(files)
        manifest.licence = licence
        return Corpus(manifest)

    def is_all(self, files: Sequence[CorpusFile], policy: NearDuplicates) -> bool:
        """Whether these rows are those of the newest corpus, but for files that cannot be used: then all that it says
        of them holds, which one is a near-duplicate of which, too."""
        usable = [file for file in files if not file.HasField("failure")]
        were = sum(not file.HasField("failure") for file in self.manifest.files)
        same = all(self._files.get(file.path) is file for file in usable)
        return same and len(usable) == were > 0 and policy == self.manifest.near_duplicates


def publish(
    store: Store, collection: str, run: str, corpus: Corpus, sheet: ArtifactRef | None, shards: int = 0
) -> StoredCorpus:
    """Writes the manifest and says where it is; `shards`: also what each of so many takes of it."""
    stored = StoredCorpus(run, corpus, put_manifest(store, corpus), len(corpus.songs), sheet)
    if shards > 1:
        keep_parts(store, collection, stored, shards)
    written = WrittenCorpus(manifest=stored.manifest, sheet=sheet, counts=corpus.counts)
    ingest_series(store, collection).append(IngestOutcome(run=run, ended_at=timestamp(time.time()), corpus=written))
    return stored


def publish_failure(store: Store, collection: str, run: str, error: LuthierError) -> None:
    """Says that there is no corpus, so that nobody waits for it."""
    status = status_of(error, "pipeline")
    ingest_series(store, collection).append(IngestOutcome(run=run, ended_at=timestamp(time.time()), error=status))


def keep_parts(store: Store, collection: str, stored: StoredCorpus, shards: int) -> None:
    """Keeps the songs of each shard as a note, in place of those of earlier manifests, so that a shard reads its own:
    2,000 shards that each read a manifest of 100,000 songs (39 MB, 4 s of CPU) read 78 GB. Without a note they do."""
    files: list[list[CorpusFile]] = [[] for _ in range(shards)]
    for song in stored.corpus.songs:
        files[shard_of(song.fingerprint, shards)].append(song)

    def keep(index: int) -> None:
        part = CorpusManifest(version=MANIFEST_VERSION, files=files[index])
        part.licence, part.near_duplicates = stored.corpus.manifest.licence, stored.corpus.manifest.near_duplicates
        keep_note(store, part_key(collection, stored.manifest, Shard(index, shards)), part)

    folder = f"{folder_of(collection)}{PARTS}/"
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        list(pool.map(keep, range(shards)))
    try:
        for key in list(store.objects.keys(folder)):
            if not key.startswith(f"{folder}{stored.manifest.sha256}/"):
                store.objects.delete(key)
    except LuthierError as error:  # a policy of an older version lets nobody delete them
        log.warning("parts of earlier manifests are left: %s", error)


def part_key(collection: str, manifest: ArtifactRef, shard: "Shard") -> str:
    """Where the songs of a manifest that a shard takes lie."""
    return f"{folder_of(collection)}{PARTS}/{manifest.sha256}/{shard}.json"


def read_part(store: Store, collection: str, manifest: ArtifactRef, shard: "Shard") -> Corpus:
    """At least the songs of a manifest that a shard takes: its part, or where no ingest kept that, all of them. Raises
    InvalidRequest MANIFEST_INVALID when it is no manifest."""
    own = find_note(store, CorpusManifest, part_key(collection, manifest, shard)) if shard.count > 1 else None
    return Corpus(own) if own and own.version == MANIFEST_VERSION else read_manifest(store, manifest)


def wait_for(
    store: Store, collection: str, run: str, wait_s: float, say: Callable[[str], None], shard: "Shard | None" = None
) -> StoredCorpus:
    """The corpus of a run (any run's newest where none is named), waiting until ingest has written it. Of a `shard` at
    least its songs.

    Raises FailedPrecondition CORPUS_FAILED when ingest could not do it, DeadlineExceeded when `wait_s` is over. `say`
    gets a line when what it waits for changes.
    """
    began, said = time.monotonic(), ""
    give_up = began + wait_s
    series, outcomes = ingest_series(store, collection), list[IngestOutcome]()
    while True:
        try:
            outcomes += [outcome for _, outcome in series.entries(after=len(outcomes))]
            found = _look(store, collection, run, outcomes)
        except Unavailable as error:
            found = f"the store does not answer ({error.reason})"
        if isinstance(found, IngestOutcome):
            written = found.corpus
            sheet = written.sheet if written.HasField("sheet") else None
            corpus = read_part(store, collection, written.manifest, shard or Shard())
            return StoredCorpus(found.run, corpus, written.manifest, written.counts.songs, sheet)
        if time.monotonic() >= give_up:
            text = f"{series.name}: no manifest after {wait_s:g} s (--wait): {found}"
            raise DeadlineExceeded(text, reason="CORPUS_MISSING")
        if found != said:
            say(f"waiting for {series.name}: {found}")
            said = found
        now = time.monotonic()
        pause_s = min(max(LOOK_EVERY_S, LOOKS_LATE * (now - began)), SELDOM_S)
        time.sleep(min(pause_s, max(0.0, give_up - now)))


def _look(store: Store, collection: str, run: str, outcomes: list[IngestOutcome]) -> IngestOutcome | str:
    """The outcome to take, or why there is none yet."""
    if not run and outcomes:
        run = outcomes[-1].run
    own = [outcome for outcome in outcomes if outcome.run == run]
    if done := next((outcome for outcome in own if outcome.HasField("corpus")), None):
        return done
    now = time.time()
    newest = part_series(store, collection, run, INGEST).latest() if run else None
    if newest and (part := newest[1]).state == PART_STATE_RUNNING:
        if (quiet_s := silent_s(part, now)) > LONG_DEAD_S:
            text = f"corpora/{collection} was not written: its ingest has said nothing for {quiet_s / 3600:.1f} h"
            raise FailedPrecondition(text, reason="CORPUS_FAILED")
        quiet = f", silent for {quiet_s:.0f} s" if quiet_s else ""
        return f"{part.ingest.inspected} of {part.ingest.files or '?'} files inspected{quiet}"
    if not own:
        return "ingest has not begun"
    error = error_of(own[-1].error)
    if error.permanent or now - seconds(own[-1].ended_at) > ANOTHER_TRY_S:
        text = f"corpora/{collection} could not be written: {error.reason}: {error}"
        raise FailedPrecondition(text, reason="CORPUS_FAILED")
    return f"ingest failed, it may try again: {error.reason}"


@dataclass(frozen=True)
class Shard:
    """Number `index` (from 0) of `count`."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def of(self, songs: Iterable[CorpusFile]) -> list[CorpusFile]:
        """The songs of this shard, in their order."""
        return [song for song in songs if shard_of(song.fingerprint, self.count) == self.index]


def shard_of(fingerprint: str, count: int) -> int:
    """The shard that takes a song, 0 to count - 1: the SHA-256 of its fingerprint modulo the number of shards.

    Every song is in exactly one, whatever the order of the manifest, the machine or the other songs.
    """
    return int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:8]) % count


def parse_shard(text: str, shards: int, environ: Mapping[str, str]) -> Shard:
    """The shard that `I/N` names, or the environment's index of `shards`; the whole where nothing is named.

    Raises ValueError, whose text completes the sentence `--shard …`.
    """
    if not text and not shards:
        return Shard()
    index, slash, count = text.partition("/") if text else (environ.get(INDEX_ENV, ""), "/", str(shards))
    if not text and not index:
        raise ValueError(f"is missing: --shards {shards} takes the index from {INDEX_ENV}, which is not set")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ValueError(f"must be I/N, e.g. 0/4, got {text or index!r}")
    shard = Shard(int(index), int(count))
    if not (1 <= shard.count <= MAX_SHARDS and shard.index < shard.count):
        raise ValueError(f"must be I/N with 0 <= I < N <= {MAX_SHARDS}, got {shard.index}/{shard.count}")
    return shard


def as_name(text: str) -> str:
    """A collection's name from any text: lower case, safe characters, at most 64."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "collection"
    return cleaned[:64]


def as_collection(name: str) -> str:
    """The name, when it is one that curation takes. Raises InvalidRequest."""
    checks = Checks()
    checks.name("collection", name)
    checks.done()
    return name


def _old_outcome(value: Mapping[str, Any]) -> IngestOutcome | None:
    """Luthier 0.1: one flat object, its time in seconds since the epoch, an error by reason, message and permanence."""
    if "at" not in value:
        return None
    outcome = IngestOutcome(run=value["run"], ended_at=timestamp(value["at"]))
    if value["state"] == "DONE":
        written = {name: value[name] for name in ("manifest", "sheet") if value[name]}
        counts = {name: value[name] for name in CorpusCounts.DESCRIPTOR.fields_by_name if name in value}
        ParseDict({**written, "counts": counts}, outcome.corpus, ignore_unknown_fields=True)
    else:
        kind = InvalidRequest if value["permanent"] else Unavailable
        outcome.error.CopyFrom(status_of(kind(value["message"], reason=value["reason"]), "pipeline"))
    return outcome
