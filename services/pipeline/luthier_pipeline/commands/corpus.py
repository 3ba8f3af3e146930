"""inspect and ingest: from a folder of MIDI files to the corpus manifest."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.errors import InvalidRequest, LuthierError
from luthier_pipeline import catalogue
from luthier_pipeline import corpus as corpora
from luthier_pipeline.board import sweep
from luthier_pipeline.catalogue import Written
from luthier_pipeline.commands.context import PATIENCE_S, Context, UsageError
from luthier_pipeline.corpus import Corpus
from luthier_pipeline.diary import INGEST, Diary
from luthier_pipeline.progress import Progress, clock
from luthier_pipeline.resources import as_collection, plain, put, table
from luthier_pipeline.run import MAX_FAILURES_TOLD
from luthier_pipeline.songbook import compose

SONGBOOK_LICENCE = "Apache-2.0"


def inspect(context: Context) -> None:
    """Shows what each file says, without rendering."""
    found = _inspected(context, Path(context.arguments.folder))
    rows = [
        [entry.path, clock(entry.duration_s), entry.fingerprint[:12], f"duplicate of {entry.duplicate_of}"]
        if entry.duplicate_of
        else [
            entry.path,
            clock(entry.duration_s),
            entry.fingerprint[:12],
            entry.failure.reason if entry.failure else "",
        ]
        for entry in found.entries
    ]
    document = {
        **_counts(found),
        "inspected": [asdict(entry) for entry in found.entries],
    }
    context.answer(document, table(rows, ["file", "length", "fingerprint", "remark"]))


def ingest(context: Context) -> None:
    """Writes the corpus manifest; of a collection, where its shards find it."""
    arguments = context.arguments
    with _source(context) as folder:
        if arguments.collection:
            written = ingest_collection(context, folder, as_collection(arguments.collection), arguments.submission)
            found, manifest = written.corpus, written.manifest
        else:
            found = _inspected(context, folder)
            manifest = context.place.store.put_bytes("manifests", found.to_json(), "json", "application/json")
    document = {**_counts(found), "collection": arguments.collection, "manifest": plain(manifest)}
    context.answer(
        document,
        f"{document['files']} files: {document['songs']} songs, {document['duplicates']} duplicates, "
        f"{len(found.failures)} cannot be used\nmanifest {manifest.key}",
    )


def ingest_collection(context: Context, folder: Path, collection: str, submission: str = "") -> Written:
    """Ingests a folder into `corpora/<collection>` as a run of its own, and publishes how far it is.

    What fails is published too, so that shards do not wait for it. `submission` is the run's name where Jobs were
    submitted under one.
    """
    store, run = context.place.store, submission or uuid.uuid4().hex[:12]
    sweep(store, collection, keep=run)
    files = len(corpora.midi_files(folder))
    with Diary(store, collection, run, INGEST, submitted=bool(submission), **_facts(files, 0)) as diary:
        try:
            found = _inspected(context, folder, lambda done: diary.tell(**_facts(files, done)))
            sheet = sheet_of(context, folder)
        except (UsageError, LuthierError) as error:
            refused = error if isinstance(error, LuthierError) else InvalidRequest(str(error), reason="FOLDER_MISSING")
            catalogue.publish_failure(store, collection, run, refused)
            raise
        manifest = catalogue.publish(store, collection, run, found, sheet)
        failures = [asdict(failure) for failure in found.failures[:MAX_FAILURES_TOLD]]
        diary.tell(**found.counts, corpus_songs=len(found.songs), failures=failures)
        diary.end()
    return Written(run, found, manifest, sheet)


def sheet_of(context: Context, folder: Path | None) -> ArtifactRef | None:
    """The sheet of tags that is named, or the folder's own `tags.csv`."""
    named = context.arguments.tags
    own = folder / "tags.csv" if folder else None
    path = Path(named) if named else own if own and own.is_file() else None
    media_type = "application/json" if path and path.suffix == ".json" else "text/csv"
    return put(context.place.store, "sheets", path, media_type) if path else None


def _facts(files: int, inspected: int) -> dict[str, int]:
    """What the diary says: a file that is not inspected needs a renderer as a song does."""
    return {"files": files, "inspected": inspected, "need_render": files - inspected}


@contextmanager
def _source(context: Context) -> Iterator[Path]:
    """The folder that is named, or the songbook, composed into a folder that goes away."""
    arguments = context.arguments
    if bool(arguments.folder) == arguments.songbook:
        raise UsageError("ingest takes a FOLDER or --songbook, one of them")
    if arguments.folder:
        yield Path(arguments.folder)
        return
    if arguments.licence == "unknown":
        arguments.licence = SONGBOOK_LICENCE
    with tempfile.TemporaryDirectory(prefix="songbook-") as folder:
        compose(Path(folder), arguments.songs)
        yield Path(folder)


def _inspected(context: Context, folder: Path, tell: Callable[[int], None] = lambda _done: None) -> Corpus:
    if not folder.is_dir():
        raise UsageError(f"FOLDER must be a folder, got {folder}")
    total = len(corpora.midi_files(folder))
    if not total:
        raise InvalidRequest(reason="FOLDER_EMPTY", violations=[("FOLDER", f"has no .mid or .midi file: {folder}")])
    progress = Progress("inspected", total)

    def tick() -> None:
        progress.advance()
        tell(progress.done)

    found = corpora.ingest(
        folder,
        context.place.store,
        context.place["rendering"],
        licence=getattr(context.arguments, "licence", "unknown"),
        patience_s=PATIENCE_S,
        tick=tick,
    )
    progress.finish()
    return found


def _counts(found: Corpus) -> dict[str, object]:
    return {**found.counts, "failures": [asdict(failure) for failure in found.failures]}
