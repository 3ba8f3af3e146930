"""luthier export: freezes the accepted clips into a data set, and writes it as a folder."""

import json as jsons
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    ClipFilter,
    ExportDatasetRequest,
    ExportDatasetResponse,
)
from luthier_kit.licences import USES
from luthier_kit.store import Store
from luthier_pipeline.console import UsageError, plain
from luthier_pipeline.curate import collections
from luthier_pipeline.export.folder import CARD, CROISSANT, MANIFEST, check_out, replacing
from luthier_pipeline.files import save
from luthier_pipeline.options import USER, Json, Reviewer, Use, begin

if TYPE_CHECKING:
    from luthier_pipeline.export.dataset import Format

EXPORT_TIMEOUT_S = 600.0


def export(
    ctx: typer.Context,
    collection: Annotated[
        str,
        typer.Option(metavar="NAME", help="Default: the only one that has accepted clips."),
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Data set name; default: the collection's.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also write it into a folder.")] = None,
    form: Annotated[
        Literal["audiofolder", "parquet", "webdataset"],
        typer.Option("--format", help="Of the folder; each loads with Hugging Face datasets or webdataset."),
    ] = "audiofolder",
    validation_share: Annotated[float, typer.Option(metavar="SHARE", help="Share of songs, 0 to 0.5.")] = 0.1,
    test_share: Annotated[float, typer.Option(metavar="SHARE", help="Share of songs, 0 to 0.5.")] = 0.1,
    use: Use = None,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> ExportDatasetResponse:
    """Freeze the accepted clips into a data set with leak-free splits."""
    context = begin(ctx, json)
    if not collection:
        names = collections(context.clients, ClipFilter(verdict=VERDICT_ACCEPTED))
        if len(names) != 1:
            text = f"--collection must be named; with accepted clips there are: {', '.join(names) or 'none'}"
            raise UsageError(text)
        [collection] = names
    if out:
        check_out(out)  # before anything is frozen
    elif form != "audiofolder":
        raise UsageError(f"--format {form} needs --out FOLDER")
    request = ExportDatasetRequest(
        collection=collection,
        name=name,
        validation_share=validation_share,
        test_share=test_share,
        exported_by=reviewer,
        use=USES[use] if use else None,
    )
    answer = context.clients.curation.ExportDataset(request, timeout=EXPORT_TIMEOUT_S)
    dataset = f"{answer.name}@{answer.version}"
    if out:
        write_folder(context.clients.store, answer, out, form)
    splits = ", ".join(f"{split.split} {split.songs} songs {split.clips} clips" for split in answer.splits)
    same = " (unchanged)" if answer.unchanged else ""
    written = f", written to {out} as {form}" if out else ""
    context.answer({"dataset": dataset, **plain(answer)}, f"data set {dataset}{same}: {splits}{written}")
    return answer


def write_folder(store: Store, exported: ExportDatasetResponse, folder: Path, form: "Format") -> None:
    """Writes a data set as a folder: the clips, `manifest.json`, the card with its pictures, `croissant.json`.

    Raises UsageError for a folder that `check_out` refuses. An export that ends early leaves what was there before.
    """
    # slow to import, and only for who wants a folder
    from luthier_pipeline.export import audio_folder, card, parquet, web_dataset
    from luthier_pipeline.export.croissant import croissant
    from luthier_pipeline.export.dataset import read
    from luthier_pipeline.export.figures import figures

    with replacing(folder) as whole:
        save(store, exported.manifest, whole / MANIFEST)
        dataset = read(store, exported)
        with dataset.progress:
            if form == "audiofolder":
                audio_folder.write(dataset, store, whole, present=folder)
            elif form == "parquet":
                parquet.write(dataset, store, whole)
            else:
                web_dataset.write(dataset, store, whole)
        found = figures(dataset.manifest.rows)
        card.draw(found, whole)
        (whole / CARD).write_text(card.card(dataset, found, form), encoding="utf-8")
        description = croissant(dataset, found, form, whole)
        (whole / CROISSANT).write_text(jsons.dumps(description, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
