"""The audit trail, the same in a folder and in S3: who registered and promoted what, and what was forced."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest

from luthier.registry.v1.registry_pb2 import AUDITED_ACTION_DELETE, AUDITED_ACTION_PROMOTE, AUDITED_ACTION_REGISTER
from luthier_kit.registry import OVERRULED, ModelVersion, audit, audited, register, today
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store


def version(store: Store, name: str = "tuned", weights: bytes = b"weights", **facts: object) -> ModelVersion:
    return ModelVersion(
        name=name,
        checkpoint=store.blobs.put_bytes("checkpoints", weights, "safetensors"),
        configuration=store.blobs.put_bytes("configurations", b"{}", "json"),
        **facts,  # type: ignore[arg-type]
    )


def test_a_registration_says_who_what_and_why(store: Store) -> None:
    registered = register(store, version(store, created_by="shop (as ann)", reason="a first try"))
    [(key, entry)] = audited(store)
    assert key.startswith(f"audit/{today()}/")
    assert (entry.action, entry.actor, entry.reason) == (AUDITED_ACTION_REGISTER, "shop (as ann)", "a first try")
    assert entry.subject == f"tuned@1 sha256:{registered.digest}"
    assert store.objects.get(entry.document, 1 << 20)


def test_a_promotion_says_what_was_forced(store: Store) -> None:
    forced = version(store, name="production", created_by="ann", notes={OVERRULED: ["failed: 3 of 4 rows failed"]})
    register(store, forced, promotion=True)
    [(_, entry)] = audited(store)
    assert (entry.action, list(entry.overruled)) == (AUDITED_ACTION_PROMOTE, ["failed: 3 of 4 rows failed"])


def test_what_a_training_run_registers_has_the_run_as_its_actor(store: Store) -> None:
    register(store, version(store, notes={"run": "training-1"}))
    assert [entry.actor for _, entry in audited(store)] == ["run training-1"]


def test_what_changes_nothing_is_not_told(store: Store) -> None:
    register(store, version(store))
    register(store, version(store))
    with pytest.raises(InvalidRequest):
        register(store, version(store, name="Not A Name"))
    assert len(list(audited(store))) == 1


def test_of_writers_at_once_none_is_lost(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: audit(store, AUDITED_ACTION_DELETE, actor=f"{n}", subject="x"), range(24)))
    assert {entry.actor for _, entry in audited(store)} == {f"{n}" for n in range(24)}


def test_days_are_chosen_and_what_is_no_day_is_passed_over(store: Store) -> None:
    audit(store, AUDITED_ACTION_DELETE, actor="ann", subject="x" * 5000)
    store.objects.create("audit/notes/1.json", b"{}")
    day = timedelta(days=1)
    assert [len(entry.subject) for _, entry in audited(store, today(), today())] == [1000]
    assert not list(audited(store, until=today() - day))
    assert not list(audited(store, since=today() + day, until=date.max))
