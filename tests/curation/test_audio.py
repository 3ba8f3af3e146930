"""The page's copies of clips."""

from pathlib import Path

import pytest

from luthier_curation.web.audio import AudioCache
from luthier_kit.rpc import NotFound
from tests.support.services import temp_store


def test_a_copy_of_what_was_taken_down_is_not_served(tmp_path: Path) -> None:
    with temp_store(tmp_path / "store") as store:
        ref = store.blobs.put_bytes("clips", b"fLaC 1", "flac")
        cache = AudioCache(store, tmp_path / "copies", max_bytes=1 << 20)
        assert cache.path(ref) == cache.path(ref)
        store.blobs.take_down(ref.sha256, by="label", reason="claim 7")
        with pytest.raises(NotFound, match="taken down"):
            cache.path(ref)
