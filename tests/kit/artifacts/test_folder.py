"""What only a folder can do wrong."""

import os
import time
from pathlib import Path

import pytest

from luthier_kit.artifacts import Artifacts, FolderStore
from luthier_kit.errors import Unavailable


def opened(folder: Path) -> Artifacts:
    store = Artifacts(FolderStore(folder, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put_bytes("mixes", b"music", "flac")
    store.append("runs/a", {})
    store.objects.create("runs/a/1.json", b"late")
    assert list((tmp_path / "luthier/.incoming").iterdir()) == []


def test_what_a_crashed_writer_left_is_swept_after_a_day(tmp_path: Path) -> None:
    store = opened(tmp_path)
    old, new = (tmp_path / "luthier/.incoming" / name for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    store.objects.ensure_bucket(create=True)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_is_a_store_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "luthier").write_text("a file where the bucket should be")
    with pytest.raises(Unavailable, match="artifact folder failed"):
        opened(tmp_path)


@pytest.mark.parametrize("key", ["/etc/passwd", "a/../b", ".incoming/x", "a//b", "", "a/", "a\0b", "a" * 600])
def test_a_key_never_leaves_the_folder(tmp_path: Path, key: str) -> None:
    store = opened(tmp_path)
    for call in (store.objects.size_bytes, store.objects.delete, lambda k: store.objects.create(k, b"x")):
        with pytest.raises(ValueError, match="not an object key"):
            call(key)
