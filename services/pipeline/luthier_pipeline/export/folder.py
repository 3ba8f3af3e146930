"""The folder of an exported data set: written beside the one that it replaces, and put in its place when whole."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from luthier_kit.rpc import SPLITS, InvalidRequest
from luthier_pipeline.console import UsageError

MANIFEST, METADATA, PICTURES = "manifest.json", "metadata.parquet", "pictures"
CARD, CROISSANT = "README.md", "croissant.json"
CARD_MARK: Final = "# Written by luthier export; the next export into this folder writes it anew."
"""A comment of the card's first lines. By it an export knows its own README.md from that of some project."""

CLIP_FILE: Final = re.compile(r"clip-[0-9a-f]+\.[a-z0-9]+")
"""Name of a clip's audio. It has one dot: readers of WebDataset split names at the first."""
_SPLIT: Final = "|".join(SPLITS)
_PLAIN: Final = re.compile(rf"{MANIFEST}|({_SPLIT})(/(metadata\.(jsonl|parquet)|{CLIP_FILE.pattern}))?")
_WITH_CARD: Final = re.compile(
    rf"{CARD}|{CROISSANT}|{METADATA}|{PICTURES}(/[a-z]+\.png)?|data(/({_SPLIT})-[0-9]+-of-[0-9]+\.(parquet|tar))?"
)
"""What an export writes, below its folder: names that nobody else gives, and names that others give, too."""


def check_out(folder: Path) -> None:
    """Raises UsageError for a folder that no export can replace: it holds anything but a data set, or cannot be
    renamed."""
    check_movable(folder)
    if stranger := _not_of_a_dataset(folder.resolve()):
        raise UsageError(f"--out {folder} holds what no export wrote ({stranger}); name a new or empty folder")


def check_movable(folder: Path) -> None:
    """Raises UsageError for a folder that is in use by the shell that calls, or is a mount point, which cannot be
    renamed."""
    folder = folder.resolve()
    if folder.is_mount():
        raise UsageError(f"--out {folder} is a mount point, which cannot be replaced; name a folder in it")
    if Path.cwd().is_relative_to(folder):
        raise UsageError(f"--out {folder} is the working directory, which cannot be replaced; name a folder in it")


@contextmanager
def replacing(folder: Path, check: Callable[[Path], None] = check_out) -> Iterator[Path]:
    """A new folder beside `folder`, to be filled; when the block ends without an error it replaces `folder`, so that no
    two versions mix. What a command that was killed left of it is swept first.

    Raises UsageError for a folder that `check` refuses and while another command writes it, InvalidRequest
    FOLDER_UNWRITABLE where the file system refuses.
    """
    check(folder)
    folder = folder.resolve()
    whole, replaced = folder.parent / f".{folder.name}.new", folder.parent / f".{folder.name}.old"
    try:
        whole.mkdir(parents=True, exist_ok=True)
        lock = os.open(whole, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"--out {folder} is being written by another command") from None
            if replaced.exists() and not folder.exists():  # killed between the two renames below
                replaced.rename(folder)
            for left in (*whole.iterdir(), *([replaced] if replaced.exists() else [])):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield whole
            if folder.exists():
                folder.rename(replaced)
            whole.rename(folder)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            os.close(lock)
    except OSError as error:
        raise InvalidRequest(
            reason="FOLDER_UNWRITABLE", violations=[("--out", f"cannot be written: {error.strerror}: {folder}")]
        ) from None


def _not_of_a_dataset(folder: Path) -> str:
    """The first thing in a folder that no export wrote; empty where there is none."""
    if folder.exists() and not folder.is_dir():
        return "it is a file"
    has_card = _is_our_card(folder / CARD)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not _PLAIN.fullmatch(name) and not (has_card and _WITH_CARD.fullmatch(name)):
            return name
    return ""


def _is_our_card(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return CARD_MARK.encode() in file.read(1024)
