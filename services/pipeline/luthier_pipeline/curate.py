"""review and export: what people do on the curation page, for scripts."""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    ClipFilter,
    CuratedClip,
    ExportDatasetRequest,
    ExportDatasetResponse,
    ListClipsRequest,
    ReviewClipsRequest,
)
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier_kit.rpc import SPLITS, InvalidRequest
from luthier_kit.store import Store
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError, plain
from luthier_pipeline.files import save
from luthier_pipeline.options import USER, Json, Reviewer, begin

PAGE_SIZE: Final = 500  # the most that ListClips gives and ReviewClips takes
EXPORT_TIMEOUT_S: Final = 600.0
MANIFEST, METADATA = "manifest.json", "metadata.jsonl"
EXPORTED_FILE: Final = re.compile(rf"({'|'.join(SPLITS)})/({METADATA}|clip-[0-9a-f]+\.[a-z0-9]+)")
"""What an export writes, below its folder."""


def review(
    ctx: typer.Context,
    accept: Annotated[Literal["checked"], typer.Option(help="The rule.")],
    collection: Annotated[str, typer.Option(metavar="NAME", help="Default: every collection.")] = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> None:
    """Accept every open clip whose prompts passed the check; recorded as automatic."""
    assert accept == "checked"  # there is no other rule yet
    context = begin(ctx, json)
    curation, wanted = context.clients.curation, ClipFilter(verdict=VERDICT_OPEN, checked=True)
    changed, unchanged, batches = 0, 0, dict[str, str]()
    for name in [collection] if collection else collections(context.clients, wanted):
        request = ReviewClipsRequest(
            filter=wanted,
            verdict=VERDICT_ACCEPTED,
            reviewer=reviewer,
            automatic=True,
            remark="accepted because every prompt passed the check",
        )
        request.filter.collection = name
        answer = curation.ReviewClips(request)
        changed, unchanged, batches[name] = changed + answer.changed, unchanged + answer.unchanged, answer.batch_id
    newest = next(reversed(batches.values()), "")
    context.answer(
        {"changed": changed, "unchanged": unchanged, "batch_id": newest, "batches": batches},
        f"{changed} clips accepted as {reviewer} (automatic)",
    )


def export(
    ctx: typer.Context,
    collection: Annotated[
        str,
        typer.Option(metavar="NAME", help="Default: the only one that has accepted clips."),
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Data set name; default: the collection's.")] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write it as a Hugging Face AudioFolder.")
    ] = None,
    validation_share: Annotated[float, typer.Option(metavar="SHARE", help="Share of songs, 0 to 0.5.")] = 0.1,
    test_share: Annotated[float, typer.Option(metavar="SHARE", help="Share of songs, 0 to 0.5.")] = 0.1,
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
    request = ExportDatasetRequest(
        collection=collection,
        name=name,
        validation_share=validation_share,
        test_share=test_share,
        exported_by=reviewer,
    )
    answer = context.clients.curation.ExportDataset(request, timeout=EXPORT_TIMEOUT_S)
    dataset = f"{answer.name}@{answer.version}"
    if out:
        write_audio_folder(context.clients.store, answer, out)
    splits = ", ".join(f"{split.split} {split.songs} songs {split.clips} clips" for split in answer.splits)
    same = " (unchanged)" if answer.unchanged else ""
    written = f", written to {out}" if out else ""
    context.answer({"dataset": dataset, **plain(answer)}, f"data set {dataset}{same}: {splits}{written}")
    return answer


def clips(clients: Clients, wanted: ClipFilter | None = None) -> Iterator[CuratedClip]:
    """Every clip that matches, of every collection unless the filter names one."""
    request = ListClipsRequest(filter=wanted, page_size=PAGE_SIZE)
    while True:
        page = clients.curation.ListClips(request)
        yield from page.clips
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def collections(clients: Clients, wanted: ClipFilter) -> list[str]:
    """Names of the collections that have such clips, sorted."""
    return sorted({clip.collection for clip in clips(clients, wanted)})


def check_out(folder: Path) -> None:
    """Raises UsageError for a folder that no export can replace: it holds anything but a data set, is in use by the
    shell that calls, or is a mount point, which cannot be renamed."""
    folder = folder.resolve()
    if folder.is_mount():
        raise UsageError(f"--out {folder} is a mount point, which cannot be replaced; name a folder in it")
    if Path.cwd().is_relative_to(folder):
        raise UsageError(f"--out {folder} is the working directory, which cannot be replaced; name a folder in it")
    if stranger := _not_of_a_dataset(folder):
        raise UsageError(f"--out {folder} holds what no export wrote ({stranger}); name a new or empty folder")


def write_audio_folder(store: Store, exported: ExportDatasetResponse, folder: Path) -> None:
    """Writes a data set as a Hugging Face AudioFolder: `<split>/metadata.jsonl` beside the audio, and `manifest.json`.

    It is written beside `folder`, which it replaces when it is whole, so that no two versions mix; audio that is in the
    folder already is taken over. Raises UsageError for a folder that `check_out` refuses.
    """
    check_out(folder)
    folder = folder.resolve()
    whole, replaced = folder.parent / f".{folder.name}.new", folder.parent / f".{folder.name}.old"
    whole.mkdir(parents=True, exist_ok=True)
    lock = os.open(whole, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"--out {folder} is being written by another export") from None
        for left in (*whole.iterdir(), *([replaced] if replaced.exists() else [])):  # by an export that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        save(store, exported.manifest, whole / MANIFEST)
        for split in exported.splits:
            if split.clips:
                save(store, split.metadata, whole / split.split / METADATA)
        for row in store.get(DatasetManifest, exported.manifest, reason="MANIFEST_INVALID").rows:
            name = f"{row.split}/{row.clip_id}{Path(row.audio.key).suffix}"
            if _is_that_file(folder / name, row.audio):
                _take_over(folder / name, whole / name)
            else:
                save(store, row.audio, whole / name)
        if folder.exists():
            folder.rename(replaced)
        whole.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise InvalidRequest(
            reason="FOLDER_UNWRITABLE", violations=[("--out", f"cannot be written: {error.strerror}: {folder}")]
        ) from None
    finally:
        os.close(lock)


def _not_of_a_dataset(folder: Path) -> str:
    """The first thing in a folder that no export wrote; empty where there is none."""
    if folder.exists() and not folder.is_dir():
        return "it is a file"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in (*SPLITS, MANIFEST) and not EXPORTED_FILE.fullmatch(name):
            return name
    return ""


def _take_over(path: Path, target: Path) -> None:
    """The same file under another name: a link, or a copy where the file system has no hard links (exFAT)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _is_that_file(path: Path, ref: ArtifactRef) -> bool:
    if not path.is_file() or path.stat().st_size != ref.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == ref.sha256
