"""inspect and ingest: from a folder of MIDI files to the corpus manifest."""

import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.pipeline.v1 import pipeline_pb2 as pipeline
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, IngestProgress, PartProgress, SongFailure
from luthier.rendering.v1.rendering_pb2 import InspectMidiResponse
from luthier_kit.rpc import InvalidRequest, LuthierError
from luthier_kit.store import Store
from luthier_pipeline.clients import Clients, is_fatal, say_waiting
from luthier_pipeline.console import Context, Progress, UsageError, clock, plain, table
from luthier_pipeline.corpus import (
    MAX_SHARDS,
    Corpus,
    Known,
    StoredCorpus,
    as_collection,
    corpus_of,
    earlier_of,
    newest_corpus,
    publish,
    publish_failure,
    put_manifest,
)
from luthier_pipeline.files import put
from luthier_pipeline.options import (
    SONGBOOK_LICENCE,
    Json,
    Licence,
    NearDuplicates,
    RunName,
    Songbook,
    Songs,
    Tags,
    begin,
)
from luthier_pipeline.report.figures import CorpusMusic, Skipped, figures
from luthier_pipeline.run_status import INGEST, MAX_FAILURES, ProgressPublisher, delete_old_runs
from luthier_pipeline.same_song import NOTHING_EARLIER, Earlier, found_by
from luthier_pipeline.song import IngestedFile, check_sheet, ingest_file, inspect_midi
from luthier_pipeline.songbook import compose

if TYPE_CHECKING:
    from luthier_pipeline.near_duplicates import Sketch, Sketches

FILES_AT_ONCE: Final = 8
UNPACK: Final = "unpack it"
SKIPPED: Final = {
    ".kar": "MIDI with lyrics: rename it to .mid",
    ".rmi": "MIDI in a RIFF file: convert it",
    **dict.fromkeys((".zip", ".rar", ".7z", ".gz", ".tgz", ".bz2", ".xz", ".tar"), UNPACK),
}
"""Endings of files that may hold songs, and what to do so that they are taken."""
SKIPPED_SHOWN: Final = 10
POLICIES: Final[Mapping[str, pipeline.NearDuplicates]] = {
    "drop": pipeline.NEAR_DUPLICATES_DROP,
    "keep": pipeline.NEAR_DUPLICATES_KEEP,
}


@dataclass(frozen=True)
class Inspected:
    """A folder whose files were all inspected; `computed` are the paths of those that were not found done, in `cpu_s`
    seconds where the service says them. `notes` say by path what was odd."""

    corpus: Corpus
    computed: frozenset[str]
    cpu_s: float = 0.0
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Which files of a folder are songs, and how one becomes a row of the manifest."""

    kind: str
    """In messages: `.mid or .midi`."""
    find: Callable[[Path], list[Path]]
    ingest: Callable[[Clients, Path, Path], IngestedFile]
    skipped: Callable[[Path], str]
    """What is said of other files that may hold songs; empty = nothing."""
    needs_render: bool
    """Whether its songs, and their inspection, need the renderer."""


def inspect(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of MIDI files.")],
    near_duplicates: NearDuplicates = "drop",
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with figures, histograms and duplicates.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what the MIDI files of a folder say, without rendering."""
    context = begin(ctx, json)
    music = CorpusMusic()
    inspected = inspect_folder(context.clients, folder, "unknown", POLICIES[near_duplicates], on_facts=music.add)
    files, failures = inspected.corpus.manifest.files, inspected.corpus.failures
    rows = [
        [
            file.path,
            clock(file.duration_s),
            file.fingerprint[:12],
            remark(file),
        ]
        for file in files
    ]
    skipped = (Skipped(path.relative_to(folder).as_posix(), _why_skipped(path)) for path in skipped_files(folder))
    found = figures(inspected.corpus, music, skipped)
    text = table(rows, ["file", "length", "fingerprint", "remark"])
    if report:
        from luthier_pipeline.report.page import page  # templates: slow to import

        write_report(report, page(found, failures, folder.resolve().name))
        text += f"\n\nreport {report}"
    document = {
        **plain(inspected.corpus.counts, zeros=True),
        "failures": [plain(failure, zeros=True) for failure in failures],
        "inspected": [
            {
                "failure": None,
                **plain(file, zeros=True),
                "computed": file.path in inspected.computed,
                "music": asdict(music.files[file.path]) if file.path in music.files else None,
            }
            for file in files
        ],
        "figures": found.document(),
        "report": str(report) if report else "",
    }
    context.answer(document, text)


def write_report(path: Path, text: str, option: str = "--report") -> None:
    """Raises UsageError, which names the option, where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from None


def ingest(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Folder of MIDI files.")] = None,
    songbook: Songbook = False,
    songs: Songs = 12,
    collection: Annotated[str, typer.Option(metavar="NAME", help="Announce the manifest as corpora/NAME.")] = "",
    tags: Tags = "",
    licence: Licence = "unknown",
    near_duplicates: NearDuplicates = "drop",
    submission: RunName = "",
    shards: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SHARDS, help="Also write what each of N shards takes.")
    ] = 0,
    json: Json = False,
) -> None:
    """Write the corpus manifest of a folder: digests, fingerprints, duplicates, near-duplicates.

    With --collection the shards of a run find it.
    """
    context = begin(ctx, json)
    if (folder is None) != songbook:
        raise UsageError("ingest takes a FOLDER or --songbook, one of them")
    if songbook and licence == "unknown":
        licence = SONGBOOK_LICENCE
    with _songbook(songs) if folder is None else nullcontext(folder) as source:
        if collection:
            stored, _ = ingest_collection(
                context,
                source,
                as_collection(collection),
                licence,
                tags,
                POLICIES[near_duplicates],
                submission,
                shards=shards,
            )
        else:
            corpus = inspect_folder(context.clients, source, licence, POLICIES[near_duplicates]).corpus
            stored = StoredCorpus("", corpus, put_manifest(context.clients.store, corpus), len(corpus.songs))
    counts = stored.corpus.counts
    document = {
        **plain(counts, zeros=True),
        "failures": [plain(failure, zeros=True) for failure in stored.corpus.failures],
        "collection": collection,
        "manifest": plain(stored.manifest),
    }
    text = [
        f"{counts.files} files: {counts.songs} songs, {counts.duplicates} duplicates, {counts.near_duplicates} "
        f"near-duplicates, {counts.failed} cannot be used",
        f"manifest {stored.manifest.key}",
        *(f"FAILED {failure.path}: {_why(failure)}" for failure in stored.corpus.failures),
    ]
    context.answer(document, "\n".join(text))


def ingest_collection(
    context: Context,
    folder: Path,
    collection: str,
    licence: str,
    tags: str,
    policy: pipeline.NearDuplicates,
    submission: str = "",
    source: Source | None = None,
    shards: int = 0,
) -> tuple[StoredCorpus, Inspected]:
    """Ingests a folder into `corpora/<collection>` as a run of its own, and publishes how far it is.

    What fails is published too, so that shards do not wait for it. `submission` is the run's name where Jobs were
    submitted under one. `source`: MIDI files unless it says otherwise. `shards` find their parts of the manifest.
    """
    store, run = context.clients.store, submission or uuid.uuid4().hex[:12]
    source = source or MIDI_FILES
    delete_old_runs(store, collection, keep=run)
    files = len(source.find(folder))

    def progress(inspected: int, left: int) -> PartProgress:
        """A file that is `left` to be inspected needs a renderer as a song does."""
        work = IngestProgress(submitted=bool(submission), files=files, inspected=inspected)
        need_render = left if source.needs_render else 0
        return PartProgress(collection=collection, run=run, part=INGEST, need_render=need_render, ingest=work)

    with ProgressPublisher(store, progress(0, files)) as publisher:
        try:
            if sheet := tag_sheet(store, tags, folder):
                check_sheet(context.clients, sheet)
            newest = newest_corpus(store, collection)

            def known() -> Known:
                configuration = context.clients.configuration("rendering").digest if source.needs_render else ""
                return Known(store, collection, newest, configuration)

            inspected = inspect_folder(
                context.clients,
                folder,
                licence,
                policy,
                earlier_of(newest),
                lambda inspected, left: publisher.update(progress(inspected, left)),
                source=source,
                what_is_known=known,
            )
        except (UsageError, LuthierError) as error:
            refused = error if isinstance(error, LuthierError) else InvalidRequest(str(error), reason="FOLDER_MISSING")
            publish_failure(store, collection, run, refused)
            raise
        stored = publish(store, collection, run, inspected.corpus, sheet, shards)
        counts, done = stored.corpus.counts, progress(files, 0)
        done.ingest.songs, done.ingest.duplicates, done.ingest.failed = counts.songs, counts.duplicates, counts.failed
        done.ingest.near_duplicates = counts.near_duplicates
        done.corpus_songs = counts.songs
        done.failures.extend(stored.corpus.failures[:MAX_FAILURES])
        publisher.finish(done)
    return stored, inspected


def inspect_folder(
    clients: Clients,
    folder: Path,
    licence: str,
    policy: pipeline.NearDuplicates = pipeline.NEAR_DUPLICATES_DROP,
    earlier: Earlier = NOTHING_EARLIER,
    on_file: Callable[[int, int], None] = lambda _done, _left: None,
    say: Callable[[str], None] = say_waiting,
    on_facts: Callable[[CorpusFile, InspectMidiResponse], None] = lambda _file, _facts: None,
    source: Source | None = None,
    what_is_known: Callable[[], Known] | None = None,
) -> Inspected:
    """Stores and inspects every file of a folder; `on_file` gets the number of files done and of what is left to be
    inspected, earlier songs too once the files are done; `say` gets what is skipped, `on_facts` what each usable file
    says. `what_is_known` is asked once there are files: they need not be inspected.

    Raises UsageError when there is no such folder, InvalidRequest FOLDER_EMPTY when it has no such file.
    """
    if not folder.is_dir():
        raise UsageError(f"FOLDER must be a folder, got {folder}")
    source = source or MIDI_FILES
    paths = source.find(folder)
    if skipped := source.skipped(folder):
        say(skipped)
    if not paths:
        raise InvalidRequest(reason="FOLDER_EMPTY", violations=[("FOLDER", f"has no {source.kind} file: {folder}")])
    with Progress("inspected", len(paths)) as progress, clients.thread_pool(FILES_AT_ONCE, "file") as pool:
        files, computed, sketches = list[CorpusFile](), set[str](), dict[str, "Sketch"]()
        cpu_s, notes = 0.0, dict[str, tuple[str, ...]]()
        known = what_is_known() if what_is_known else None
        configuration = known.configuration if known else ""

        def look(path: Path) -> IngestedFile:
            row = known.row(path, folder) if known else None
            return IngestedFile(row) if row else source.ingest(clients, path, folder)

        for found in pool.map(look, paths):
            files.append(found.file)
            if found.facts:
                sketches.setdefault(found.file.fingerprint, _sketch_of(found.facts))
                on_facts(found.file, found.facts)
                if found.facts.action.configuration != configuration:  # another server answered
                    configuration = ""
            if found.computed:
                computed.add(found.file.path)
                cpu_s += found.decoded.cpu_s if found.decoded else 0.0
            if found.notes:
                notes[found.file.path] = found.notes
            progress.advance()
            on_file(progress.done, len(paths) - progress.done)
        if known and known.is_all(files, policy):
            corpus = known.corpus_of(files, licence)
        else:
            songs = [*files, *earlier.songs] if source.needs_render else []  # recordings must not wait for a renderer
            compared = _Compared(clients, songs, sketches, known, configuration)
            compared.find(pool, lambda left: on_file(len(paths), left))
            corpus = corpus_of(files, licence, compared.all, policy, earlier)
            corpus.manifest.configuration = found_by(compared.configuration)  # known now: candidates were inspected
    return Inspected(corpus, frozenset(computed), cpu_s, notes)


class _Compared:
    """What near-duplicates of songs are found by: what was inspected now (`sketches`), what an earlier ingest kept, and
    the others inspected once more. `configuration` is that of the server that inspected all; empty = several."""

    def __init__(
        self,
        clients: Clients,
        songs: Iterable[CorpusFile],
        sketches: dict[str, "Sketch"],
        known: Known | None,
        configuration: str,
    ) -> None:
        usable = (song for song in songs if not (song.HasField("recording") or song.HasField("failure")))
        self.songs = {song.fingerprint: song for song in usable}
        self.configuration = configuration
        self._clients, self._sketches, self._known = clients, sketches, known
        self._outlines = {fingerprint: sketch.outline for fingerprint, sketch in sketches.items()}

    @property
    def all(self) -> "Sketches":
        """The sketches, those of known songs inspected when they are needed."""
        from luthier_pipeline.near_duplicates import Sketches  # numpy: slow to import

        return Sketches(self._outlines, self._load)

    def find(self, pool: ThreadPoolExecutor, on_song: Callable[[int], None]) -> None:
        """Finds the outlines of all songs, and keeps them for the next ingest; `on_song` gets how many are left to be
        inspected."""
        kept = self._known.outlines() if self._known and self.songs else {}
        self._outlines |= {name: kept[name] for name in self.songs.keys() & kept.keys() - self._outlines.keys()}
        unknown = [song for fingerprint, song in self.songs.items() if fingerprint not in self._outlines]
        if unknown:
            on_song(len(unknown))
        heard = pool.map(lambda song: _inspected_again(self._clients, song), unknown)
        for left, (song, facts) in zip(range(len(unknown) - 1, -1, -1), zip(unknown, heard, strict=True), strict=True):
            if facts:
                self._sketches[song.fingerprint] = sketch = _sketch_of(facts)
                self._outlines[song.fingerprint] = sketch.outline
                if facts.action.configuration != self.configuration:
                    self.configuration = ""
            on_song(left)
        if self._known and self.configuration and self._outlines:
            self._known.keep_outlines(self._outlines)

    def _load(self, fingerprint: str) -> "Sketch | None":
        if fingerprint not in self._sketches and (facts := _inspected_again(self._clients, self.songs[fingerprint])):
            self._sketches[fingerprint] = _sketch_of(facts)
            if facts.action.configuration != self.configuration:
                self.configuration = ""
        return self._sketches.get(fingerprint)


def _inspected_again(clients: Clients, song: CorpusFile) -> InspectMidiResponse | None:
    """What a MIDI song says that the collection had before; None where its file is taken down or lost."""
    try:
        return inspect_midi(clients, song)
    except LuthierError as error:
        if is_fatal(error):
            raise
        return None


def _sketch_of(facts: InspectMidiResponse) -> "Sketch":
    """What near-duplicates of a song are found by."""
    from luthier_pipeline.near_duplicates import Sketch  # numpy: slow to import

    return Sketch.of(facts.signature)


def midi_files(folder: Path) -> list[Path]:
    """All that is called .mid or .midi below a folder and is no folder, by name: links, pipes and what else is no file
    too, so that `ingest_file` says of each why it cannot be used."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi") and not path.is_dir())


def skipped_files(folder: Path) -> list[Path]:
    """What lies below a folder, may well hold songs and is not taken: other files, and links to folders; by name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.is_symlink() if path.is_dir() else path.suffix.lower() in SKIPPED and path.is_file())
    )


def _skipped_text(folder: Path) -> str:
    skipped = skipped_files(folder)
    if not skipped:
        return ""
    shown = ", ".join(_shown(path, folder) for path in skipped[:SKIPPED_SHOWN])
    more = f" and {len(skipped) - SKIPPED_SHOWN} more" if len(skipped) > SKIPPED_SHOWN else ""
    return f"skipped {len(skipped)} that may hold songs (only .mid and .midi are taken): {shown}{more}"


def _shown(path: Path, folder: Path) -> str:
    return f"{path.relative_to(folder)} ({_why_skipped(path)})"


def _why_skipped(path: Path) -> str:
    return "a link to a folder: not followed" if path.is_dir() else SKIPPED[path.suffix.lower()]


MIDI_FILES: Final = Source(".mid or .midi", midi_files, ingest_file, _skipped_text, needs_render=True)


def remark(file: CorpusFile) -> str:
    """What is to be said of a file: why it cannot be used, or of which other one it is the same song."""
    if file.duplicate_of:
        return f"duplicate of {file.duplicate_of}"
    if file.near_duplicate_of:
        return f"near-duplicate of {file.near_duplicate_of} ({file.similarity:.0%} alike)"
    if file.other_version_of:
        return f"by its name another version of {file.other_version_of}"
    return _why(file.failure)


def _why(failure: SongFailure) -> str:
    """Reason and explanation; empty where nothing failed."""
    return f"{failure.reason}: {failure.message}" if failure.reason else ""


def tag_sheet(store: Store, tags: str, folder: Path | None = None) -> ArtifactRef | None:
    """The sheet of tags that is named, or the folder's own `tags.csv`; None when there is neither."""
    own = folder / "tags.csv" if folder else None
    path = Path(tags) if tags else own if own and own.is_file() else None
    media_type = "application/json" if path and path.suffix == ".json" else "text/csv"
    return put(store, "sheets", path, media_type) if path else None


@contextmanager
def _songbook(songs: int) -> Iterator[Path]:
    """The songbook, composed into a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="songbook-") as folder:
        compose(Path(folder), songs)
        yield Path(folder)
