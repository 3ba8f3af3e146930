"""luthier curate: who judges what, and what they think, to other tools and back."""

import json as jsons
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from luthier.curation.v1.curation_pb2 import (
    BATCH_STATE_FAILED,
    BATCH_STATE_RUNNING,
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    VERDICT_REJECTED,
    AssignClipsRequest,
    AssignClipsResponse,
    Batch,
    ClipFilter,
    Collection,
    CuratedClip,
    EmbedClipsRequest,
    GetBatchRequest,
    ImportedOpinion,
    ImportOpinionsRequest,
    ImportOpinionsResponse,
    ListCollectionsRequest,
    SearchClipsRequest,
    SearchClipsResponse,
    UndoBatchRequest,
    UpdateCollectionRequest,
)
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import FailedPrecondition
from luthier_pipeline.console import Progress, UsageError, plain, table
from luthier_pipeline.curate import clips
from luthier_pipeline.files import save
from luthier_pipeline.judgements import argilla, csv_file, label_studio
from luthier_pipeline.judgements.opinions import reviewer_names
from luthier_pipeline.options import USER, Json, Reviewer, begin

LOOK_S: Final = 0.5
"""Between looks at work in the background."""
AT_ONCE: Final = 500  # the most that ImportOpinions takes
ASSIGN_TIMEOUT_S: Final = 600.0
MAX_FILE_BYTES: Final = 256 << 20
MAX_VALUES: Final = 20_000_000  # 100,000 tasks with some answers each
VERDICTS: Final = {"open": VERDICT_OPEN, "accepted": VERDICT_ACCEPTED, "rejected": VERDICT_REJECTED}
Form = Annotated[Literal["label-studio", "argilla", "csv"], typer.Option("--format", help="The other tool's format.")]
Named = Annotated[str, typer.Option("--collection", metavar="NAME")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


@app.callback()
def curate() -> None:
    """Who judges what, and what they think, to Label Studio, Argilla and CSV, and back."""


@app.command("export")
def export(
    ctx: typer.Context,
    collection: Named,
    out: Annotated[Path, typer.Option(metavar="PATH", help="A folder that is not there yet; of csv a file.")],
    form: Form = "label-studio",
    verdict: Annotated[
        Literal["open", "accepted", "rejected", "any"], typer.Option(help="Only clips with this verdict.")
    ] = "any",
    audio_url: Annotated[
        str,
        typer.Option(
            metavar="PREFIX",
            help="Before the name of a clip's audio; default: its place in Label Studio's "
            "local storage, or beside the file.",
        ),
    ] = "",
    json: Json = False,
) -> int:
    """Write clips and what people think of them, audio included, as another tool imports them."""
    context = begin(ctx, json)
    wanted = ClipFilter(collection=collection, verdict=VERDICTS.get(verdict))
    found = clips(context.clients, wanted)
    if out.exists():
        raise UsageError(f"--out {out} is there already")
    if form == "csv":
        written = _counted(found)
        out.write_text("".join(csv_file.lines(written)), encoding="utf-8", newline="")
        context.answer({"clips": written.count, "out": str(out)}, f"opinions about {written.count} clips in {out}")
        return written.count
    documents = []
    prefix = audio_url or ("/data/local-files/?d=audio/" if form == "label-studio" else "audio/")
    out.mkdir(parents=True)
    for clip in found:
        name = f"{clip.clip_id}.{clip.audio.key.rsplit('.', 1)[-1]}"
        save(context.clients.store, clip.audio, out / "audio" / name)
        documents.append((label_studio.task if form == "label-studio" else argilla.record)(clip, prefix + name))
    if form == "label-studio":
        (out / "interface.xml").write_text(label_studio.interface(), encoding="utf-8")
        _write(out / "tasks.json", documents)
    else:
        _write(out / "settings.json", argilla.settings())
        _write(out / "records.json", documents)
    context.answer({"clips": len(documents), "out": str(out)}, f"{len(documents)} clips in {out} for {form}")
    return len(documents)


class _counted(Iterable[CuratedClip]):  # noqa: N801
    """Clips, and how many there were."""

    def __init__(self, found: Iterator[CuratedClip]) -> None:
        self._found, self.count = found, 0

    def __iter__(self) -> Iterator[CuratedClip]:
        for clip in self._found:
            self.count += 1
            yield clip


def _write(path: Path, document: object) -> None:
    path.write_text(jsons.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@app.command("import")
def import_opinions(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What the other tool exported; of argilla records.json.")
    ],
    form: Form = "label-studio",
    names: Annotated[
        list[str] | None,
        typer.Option("--reviewer", metavar="ID=NAME", help="Name of the other tool's user; may be said several times."),
    ] = None,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> ImportOpinionsResponse:
    """Take over verdicts, ratings, remarks and captions, each as its reviewer's; the same again changes nothing."""
    context = begin(ctx, json)
    found = list(_read(file, form, reviewer_names(names or [])))  # all of it is read before any of it is sent
    total, batches = ImportOpinionsResponse(), list[str]()
    for some in _chunks(found):
        answer = context.clients.curation.ImportOpinions(ImportOpinionsRequest(opinions=some, imported_by=reviewer))
        total.changed += answer.changed
        total.unchanged += answer.unchanged
        total.unknown.extend(answer.unknown)
        batches.append(answer.batch_id)
    missing = f"; {len(total.unknown)} of unknown clips, {total.unknown[0]} is one" if total.unknown else ""
    context.answer(
        {**plain(total), "opinions": len(found), "batches": batches},
        f"{len(found)} opinions: {total.changed} clips changed, {total.unchanged} were there already{missing}"
        + (f"; luthier curate undo {' or '.join(batches)} takes it back" if total.changed else ""),
    )
    return total


def _read(file: Path, form: str, names: dict[str, str]) -> Iterator[ImportedOpinion]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{file} must have at most {MAX_FILE_BYTES} bytes")
        data = file.read_bytes()
        if form == "csv":
            return csv_file.opinions(data.decode("utf-8-sig"), names)
        document = read_json(data, max_bytes=MAX_FILE_BYTES, max_values=MAX_VALUES)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from None
    read: Iterator[ImportedOpinion] = (label_studio if form == "label-studio" else argilla).opinions(document, names)
    return read


def _chunks(found: list[ImportedOpinion]) -> Iterator[list[ImportedOpinion]]:
    """In pieces; of a clip and reviewer that come twice, as in merged files, the last counts."""
    newest = {(item.clip_id, item.opinion.reviewer): item for item in found}
    items = iter(newest.values())
    while some := list(islice(items, AT_ONCE)):
        yield some


@app.command("assign")
def assign(
    ctx: typer.Context,
    collection: Named,
    reviewers: Annotated[list[str], typer.Option("--to", metavar="NAME", help="A reviewer; say it several times.")],
    per_clip: Annotated[
        int, typer.Option(metavar="N", min=0, help="Reviewers of a clip; 0 = as the collection needs opinions.")
    ] = 0,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Ask them no more.")] = False,
    json: Json = False,
) -> AssignClipsResponse:
    """Ask reviewers about the open clips of a collection, shared out evenly."""
    context = begin(ctx, json)
    wanted = ClipFilter(collection=collection, verdict=VERDICT_OPEN)
    request = AssignClipsRequest(filter=wanted, reviewers=reviewers, per_clip=per_clip, withdraw=withdraw)
    answer = context.clients.curation.AssignClips(request, timeout=ASSIGN_TIMEOUT_S)
    shares = ", ".join(f"{name} {count}" for name, count in zip(reviewers, answer.assigned, strict=True))
    context.answer(plain(answer), f"{answer.clips} open clips: {shares} {'withdrawn' if withdraw else 'newly asked'}")
    return answer


@app.command("undo")
def undo(
    ctx: typer.Context,
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Id of the change, as review and import print it.")],
    reviewer: Reviewer = USER,
    json: Json = False,
) -> Batch:
    """Take back a change of edits, verdicts or an import. Clips that were changed since stay as they are."""
    context = begin(ctx, json)
    curation = context.clients.curation
    done = curation.UndoBatch(UndoBatchRequest(batch_id=batch, reviewer=reviewer, background=True)).batch
    waited = threading.Event()
    while done.state == BATCH_STATE_RUNNING:
        waited.wait(LOOK_S)
        done = curation.GetBatch(GetBatchRequest(batch_id=done.batch_id)).batch
    if done.state == BATCH_STATE_FAILED:
        raise FailedPrecondition(
            f"it ended after {done.seen} of {done.total} clips: {done.error}", reason="UNDO_FAILED"
        )
    kept = f"; {done.unchanged} changed since and stay as they are" if done.unchanged else ""
    context.answer(plain(done), f"taken back for {done.changed} clips{kept}; {done.batch_id} undoes that")
    return done


@app.command("embed")
def embed(
    ctx: typer.Context,
    collection: Named,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> Batch:
    """Give the clips of a collection vectors, by which they are found by their sound; those that have one keep it."""
    context = begin(ctx, json)
    curation = context.clients.curation
    request = EmbedClipsRequest(filter=ClipFilter(collection=collection), reviewer=reviewer)
    done = curation.EmbedClips(request).batch
    waited = threading.Event()
    with Progress("embed", done.total) as progress:
        while done.state == BATCH_STATE_RUNNING:
            progress.total, progress.done = max(1, done.total), done.seen
            progress.show()
            waited.wait(LOOK_S)
            done = curation.GetBatch(GetBatchRequest(batch_id=done.batch_id)).batch
        progress.total, progress.done = done.total, done.seen
    if done.state == BATCH_STATE_FAILED:
        text = f"it ended after {done.seen} of {done.total} clips: {done.error}"
        raise FailedPrecondition(text, reason="EMBED_FAILED")
    left = f"; {done.unchanged} have no vector: silent, taken down or no audio" if done.unchanged else ""
    context.answer(plain(done), f"{done.changed} clips embedded{left}")
    return done


@app.command("search")
def search(
    ctx: typer.Context,
    collection: Named,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="A sound in words; or --like.")] = "",
    like: Annotated[str, typer.Option(metavar="CLIP", help="Id of the clip that they sound like.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Clips at most.")] = 20,
    json: Json = False,
) -> SearchClipsResponse:
    """Find clips by their sound, the most similar first."""
    context = begin(ctx, json)
    if bool(text) == bool(like):
        raise UsageError("say TEXT or --like CLIP, and not both")
    request = SearchClipsRequest(filter=ClipFilter(collection=collection), limit=limit)
    if like:
        request.clip_id = like
    else:
        request.text = text
    answer = context.clients.curation.SearchClips(request)
    rows = [
        [f"{one.similarity:.3f}", one.clip.clip_id, one.clip.source.song.artist, one.clip.source.song.title,
         one.clip.prompts[0].text if one.clip.prompts else ""]
        for one in answer.clips
    ]  # fmt: skip
    context.answer(plain(answer), table(rows, ("similarity", "clip", "artist", "title", "prompt")))
    return answer


@app.command("collections")
def collections(
    ctx: typer.Context,
    collection: Annotated[str, typer.Option(metavar="NAME", help="Only this one, with its agreement.")] = "",
    opinions: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=2, help="Opinions that its clips need from now on, 1 or 2.")
    ] = None,
    json: Json = False,
) -> list[Collection]:
    """List collections: clips by verdict, opinions needed, how far reviewers agree (Cohen's kappa)."""
    context = begin(ctx, json)
    curation = context.clients.curation
    if opinions is not None:
        if not collection:
            raise UsageError("--opinions needs --collection NAME")
        curation.UpdateCollection(UpdateCollectionRequest(name=collection, opinions_per_clip=opinions))
    found = list(curation.ListCollections(ListCollectionsRequest(collection=collection)).collections)
    rows = [
        [each.name, *map(str, (each.open, each.accepted, each.rejected, each.opinions_per_clip)), _kappa(each)]
        for each in found
    ]
    text = table(rows, ("collection", "open", "accepted", "rejected", "opinions", "kappa"))
    context.answer({"collections": [plain(each) for each in found]}, text)
    return found


def _kappa(collection: Collection) -> str:
    agreed = collection.agreement
    return f"{agreed.kappa:.2f} over {agreed.clips} clips" if agreed.HasField("kappa") else ""
