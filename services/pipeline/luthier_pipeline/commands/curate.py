"""review and export: what people do on the page, for scripts."""

from pathlib import Path

from luthier.curation.v1 import curation_pb2 as curation
from luthier_pipeline.commands.context import PATIENCE_S, Context
from luthier_pipeline.resources import lay_out, plain


def review(context: Context) -> None:
    """Accepts every open clip of a collection whose prompts passed the check; recorded as automatic."""
    arguments = context.arguments
    wanted = curation.ClipFilter(collection=arguments.collection, verdict=curation.VERDICT_OPEN, checked=True)
    request = curation.ReviewClipsRequest(
        filter=wanted,
        verdict=curation.VERDICT_ACCEPTED,
        reviewer=arguments.reviewer,
        automatic=True,
        remark="accepted because every prompt passed the check",
    )
    answer = context.place["curation"].call("ReviewClips", request, patience_s=PATIENCE_S)
    context.answer(
        {"changed": answer.changed, "unchanged": answer.unchanged, "batch_id": answer.batch_id},
        f"{answer.changed} clips accepted as {arguments.reviewer} (automatic)",
    )


def export(context: Context) -> None:
    """Freezes a data set, and writes it as an AudioFolder when a folder is named."""
    arguments = context.arguments
    request = curation.ExportDatasetRequest(
        collection=arguments.collection,
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
