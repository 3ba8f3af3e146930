"""review and export: what people do on the page, for scripts."""

from pathlib import Path

from luthier.curation.v1 import curation_pb2 as curation
from luthier_pipeline.commands.context import PATIENCE_S, Context, UsageError
from luthier_pipeline.resources import lay_out, plain


def review(context: Context) -> None:
    """Accepts every open clip whose prompts passed the check, of one collection or of all; recorded as automatic."""
    arguments = context.arguments
    wanted = curation.ClipFilter(verdict=curation.VERDICT_OPEN, checked=True)
    names = [arguments.collection] if arguments.collection else _collections(context, wanted)
    answers = {name: _accept(context, name, wanted) for name in names}
    changed = sum(answer.changed for answer in answers.values())
    batches = {name: answer.batch_id for name, answer in answers.items()}
    context.answer(
        {
            "changed": changed,
            "unchanged": sum(answer.unchanged for answer in answers.values()),
            "batch_id": next(reversed(batches.values()), ""),
            "batches": batches,
        },
        f"{changed} clips accepted as {arguments.reviewer} (automatic)",
    )


def _accept(context: Context, collection: str, wanted: curation.ClipFilter) -> curation.ReviewClipsResponse:
    request = curation.ReviewClipsRequest(
        filter=wanted,
        verdict=curation.VERDICT_ACCEPTED,
        reviewer=context.arguments.reviewer,
        automatic=True,
        remark="accepted because every prompt passed the check",
    )
    request.filter.collection = collection
    return context.place["curation"].call("ReviewClips", request, patience_s=PATIENCE_S)


def _collections(context: Context, wanted: curation.ClipFilter) -> list[str]:
    """Names of the collections that have such clips."""
    names: set[str] = set()
    request = curation.ListClipsRequest(filter=wanted, page_size=500)
    while True:
        page = context.place["curation"].call("ListClips", request, patience_s=PATIENCE_S)
        names.update(clip.collection for clip in page.clips)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return sorted(names)


def _only_collection(context: Context) -> str:
    """The one that has accepted clips. Raises UsageError when there are several, or none."""
    names = _collections(context, curation.ClipFilter(verdict=curation.VERDICT_ACCEPTED))
    if len(names) != 1:
        raise UsageError(f"--collection must be named; with accepted clips there are: {', '.join(names) or 'none'}")
    return names[0]


def export(context: Context) -> None:
    """Freezes a data set, and writes it as an AudioFolder when a folder is named."""
    arguments = context.arguments
    request = curation.ExportDatasetRequest(
        collection=arguments.collection or _only_collection(context),
        name=arguments.name,
        validation_share=arguments.validation_share,
        test_share=arguments.test_share,
        exported_by=arguments.reviewer,
    )
    answer = context.place["curation"].call("ExportDataset", request, timeout_s=600, patience_s=PATIENCE_S)
    dataset = f"{answer.name}@{answer.version}"
    if arguments.out:
        lay_out(context.place.store, answer, Path(arguments.out))
    splits = ", ".join(f"{s.split} {s.songs} songs {s.clips} clips" for s in answer.splits)
    same = " (unchanged)" if answer.unchanged else ""
    context.answer({"dataset": dataset, **plain(answer)}, f"data set {dataset}{same}: {splits}")
