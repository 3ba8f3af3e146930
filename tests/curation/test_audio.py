"""The page's copies of clips."""

from pathlib import Path

import pytest

from luthier_curation.web.audio import AudioCache
from luthier_kit.errors import NotFound
from luthier_kit.testing import temp_store


def test_a_copy_of_what_was_taken_down_is_not_served(tmp_path: Path) -> None:
    with temp_store(tmp_path / "store") as store:
        ref = store.put_bytes("clips", b"fLaC 1", "flac")
        audio = {"key": ref.key, "sha256": ref.sha256, "size_bytes": ref.size_bytes}
        cache = AudioCache(store, tmp_path / "copies", max_bytes=1 << 20)
        assert cache.path(audio) == cache.path(audio)
        store.take_down(ref.sha256, by="label", reason="claim 7")
        with pytest.raises(NotFound, match="taken down"):
            cache.path(audio)
