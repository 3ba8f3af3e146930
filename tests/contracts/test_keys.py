"""Keys of a folder, the same in a folder and in S3."""

import hashlib
import io

import pytest

from luthier_kit.store import Store


@pytest.mark.parametrize("count", [0, 1300])
def test_all_keys_of_a_folder_are_told_whatever_their_names(store: Store, count: int) -> None:
    odd = {f"clips/{name}.json" for name in ("0", "1", "f", "zebra", "a/b", "Z", "_x")}
    names = {f"clips/{hashlib.sha256(b'%d' % n).hexdigest()}.flac" for n in range(count)} | odd
    for key in (*names, "clipsandmore/1.json", "other/1.json"):
        store.objects.put(key, lambda: io.BytesIO(b""), 0, "audio/flac")
    assert store.objects.key_set("clips/") == names == set(store.objects.keys("clips/"))
