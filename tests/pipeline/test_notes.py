"""Notes of songs: a store that refuses them is no reason to end a run."""

from collections.abc import Callable

import pytest

from luthier.pipeline.v1.pipeline_pb2 import SongRecord
from luthier_kit.rpc import LuthierError, PermissionDenied, Unavailable
from luthier_kit.store import Store
from luthier_pipeline.notes import find_note, keep_note

KEY = "songs/book/one.json"


def refuses(reason: str, kind: type[LuthierError] = Unavailable) -> Callable[..., object]:
    def refuse(*_: object) -> object:
        raise kind("no", reason=reason)

    return refuse


def test_what_is_kept_is_found(store: Store) -> None:
    assert find_note(store, SongRecord, KEY) is None
    keep_note(store, KEY, SongRecord(answers=3))
    assert find_note(store, SongRecord, KEY) == SongRecord(answers=3)


@pytest.mark.parametrize(
    ("kind", "reason"), [(PermissionDenied, "STORE_ACCESS_DENIED"), (Unavailable, "STORE_CREDENTIALS_REFUSED")]
)
def test_a_key_of_the_store_that_may_not_read_notes_finds_none(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: type[LuthierError], reason: str
) -> None:
    monkeypatch.setattr(store.objects, "get", refuses(reason, kind))
    assert find_note(store, SongRecord, KEY) is None


def test_a_store_that_is_down_is_down(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.objects, "get", refuses("STORE_UNAVAILABLE"))
    with pytest.raises(Unavailable):
        find_note(store, SongRecord, KEY)


@pytest.mark.parametrize("reason", ["STORE_CREDENTIALS_REFUSED", "STORE_UNAVAILABLE"])
def test_a_note_that_cannot_be_kept_is_said_and_no_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    monkeypatch.setattr(store.objects, "put", refuses(reason))
    keep_note(store, KEY, SongRecord())
    assert f"{KEY} is not kept, the next run asks again" in caplog.text
