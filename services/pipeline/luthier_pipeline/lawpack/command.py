"""luthier lawpack: writes the folder."""

import json as jsons
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.json_format import MessageToJson

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.licences import USES, refusals
from luthier_kit.store import Store
from luthier_pipeline.console import Progress, UsageError
from luthier_pipeline.export.folder import check_movable, replacing
from luthier_pipeline.lawpack.behind import Behind, UsedDataset, behind
from luthier_pipeline.lawpack.summary import KINDS
from luthier_pipeline.options import Json, begin

README, CARD, CARD_JSON = "README.md", "model-card.md", "model-card.json"
BILL, SUMMARY, LICENCES = "ml-bom.cdx.json", "training-content-summary.md", "licences.csv"
ATTRIBUTION, RULES, DATASETS = "ATTRIBUTION.md", "licence-rules.json", "datasets"
FILES: Final = {
    CARD: "what it heard: minutes per instrument, genre, tempo and key; songs, licences, settings",
    CARD_JSON: "the same for machines",
    BILL: "bill of materials, CycloneDX 1.6: the model, its bases, its data sets, the tools of its clips",
    SUMMARY: "public summary of training content, by the European Commission's template",
    LICENCES: "licence by subset: clips, minutes, what it allows and asks for",
    ATTRIBUTION: "whom to name",
    RULES: "the table of rules, each with its source",
    f"{DATASETS}/": "of each data set its manifest, its records (metadata.parquet) and Croissant 1.1; no audio",
}
_OURS: Final = re.compile(rf"{'|'.join(map(re.escape, (README, *FILES)))}.*")


def lawpack(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name, name@n or sha256:…")],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Default: lawpack-MODEL.")] = None,
    provider: Annotated[str, typer.Option(metavar="NAME", help="Who answers for the model.")] = "",
    contact: Annotated[str, typer.Option(metavar="TEXT", help="How they are reached.")] = "",
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET=KIND", help=f"Where a data set came from: {', '.join(KINDS)}; default: other."),
    ] = None,
    json: Json = False,
) -> None:
    """Write what is behind a model into a folder: licences and obligations, bill of materials, EU summary, cards.

    The data sets' clips are counted, never fetched. The same model gives the same files.
    """
    context = begin(ctx, json)
    sources = _sources(source or ())
    found = behind(context.clients.store, model)
    if strangers := sorted(set(sources) - {name for each in found.datasets for name in _names(each)}):
        known = ", ".join(each.name for each in found.datasets) or "none"
        raise UsageError(f"--source {strangers[0]}: {found.version.label} heard no such data set; it heard {known}")
    folder = out or Path(f"lawpack-{found.version.label}")
    _check(folder)
    rows = list(found.rows())
    with replacing(folder, _check) as whole:
        _write(context.clients.store, found, rows, whole, sources, provider, contact)
    refused = {name: len({each.clip_id for each in refusals(rows, use)}) for name, use in USES.items()}
    answer = {
        "model": found.version.label, "digest": found.version.digest, "folder": str(folder), "clips": len(rows),
        "datasets": [each.name for each in found.datasets], "refused_clips": refused, "unknown": found.unknown,
    }  # fmt: skip
    told = [f"{name}: {'yes' if not clips else f'no, {clips} of {len(rows)} clips'}" for name, clips in refused.items()]
    lines = [f"{folder}: what is behind {found.version.label}. May it be used: {'; '.join(told)}"]
    lines += [f"not known: {text}" for text in found.unknown]
    context.answer(answer, "\n".join(lines))


def _names(dataset: UsedDataset) -> tuple[str, str]:
    return dataset.name, dataset.name.partition("@")[0]


def _sources(told: Iterable[str]) -> dict[str, str]:
    """Kinds of source by the data sets' names. UsageError."""
    found = {}
    for each in told:
        name, _, kind = each.partition("=")
        if kind not in KINDS or not name:
            raise UsageError(f"--source {each[:80]!r} must be DATASET=KIND, KIND one of {', '.join(KINDS)}")
        found[name] = kind
    return found


def _check(folder: Path) -> None:
    """UsageError for a folder that holds anything but a pack."""
    check_movable(folder)
    inside = [path.relative_to(folder).as_posix() for path in folder.rglob("*")] if folder.is_dir() else []
    if folder.is_file() or any(not _OURS.fullmatch(name) and not f"{name}/".startswith(DATASETS) for name in inside):
        raise UsageError(f"--out {folder} holds what no lawpack wrote; name a new or empty folder")


def _write(
    store: Store, found: Behind, rows: Sequence[DatasetRow], folder: Path, sources: dict[str, str], provider: str,
    contact: str,
) -> None:  # fmt: skip
    """Everything, the data sets one after the other."""
    # slow to import, and only for who wants a pack
    from luthier_pipeline.lawpack.bill import bill
    from luthier_pipeline.lawpack.licence_files import attribution, licences_csv, read_me
    from luthier_pipeline.lawpack.summary import summary

    configuration = jsons.loads(store.blobs.read(found.version.configuration))
    architecture = str(configuration.get("model_type", "")) or "not stated"
    files = dict(FILES)
    if found.card:
        (folder / CARD).write_text(found.card.markdown, encoding="utf-8")
        (folder / CARD_JSON).write_text(
            MessageToJson(found.card, preserving_proto_field_name=True, indent=1) + "\n", encoding="utf-8"
        )
    else:
        del files[CARD], files[CARD_JSON]
    (folder / BILL).write_text(_text(bill(found, architecture)), encoding="utf-8")
    (folder / SUMMARY).write_text(summary(found, sources, provider, contact), encoding="utf-8")
    (folder / LICENCES).write_text(licences_csv(rows), encoding="utf-8")
    (folder / ATTRIBUTION).write_text(attribution(found, rows), encoding="utf-8")
    table_of_rules = resources.files("luthier_kit.licences").joinpath("rules.json").read_text()
    (folder / RULES).write_text(table_of_rules, encoding="utf-8")
    progress = Progress("data sets", len(found.datasets))
    with progress:
        for dataset in found.datasets:
            _write_dataset(dataset, folder / DATASETS / dataset.folder)
            progress.advance()
    (folder / README).write_text(read_me(found, rows, files), encoding="utf-8")


def _write_dataset(used: UsedDataset, folder: Path) -> None:
    """Manifest, records and Croissant of one data set, without its audio."""
    from luthier_pipeline.export import metadata
    from luthier_pipeline.export.croissant import CLIP_FILES, croissant
    from luthier_pipeline.export.dataset import FrozenDataset
    from luthier_pipeline.export.figures import figures
    from luthier_pipeline.export.folder import CROISSANT, MANIFEST, METADATA

    folder.mkdir(parents=True)
    name, _, number = used.name.partition("@")
    dataset = FrozenDataset(name, int(number or 1), used.manifest, None, Progress("rows", len(used.manifest.rows)))
    text = MessageToJson(used.manifest, preserving_proto_field_name=True, indent=None)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    metadata.write(used.manifest.rows, folder / METADATA)
    described = croissant(dataset, figures(used.manifest.rows), "webdataset", folder)
    files = [each for each in described["distribution"] if each["@id"] in (METADATA, CLIP_FILES)]  # type: ignore[attr-defined]
    (folder / CROISSANT).write_text(_text(described | {"distribution": files}), encoding="utf-8")


def _text(document: dict[str, object]) -> str:
    return jsons.dumps(document, indent=1, ensure_ascii=False) + "\n"
