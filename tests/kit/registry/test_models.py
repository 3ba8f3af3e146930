"""Model versions: register, name, promote, roll back."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ModelAdapter
from luthier_kit.registry import PROMOTED_FROM, ModelVersion, model_names, register, resolve, versions
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import FolderStore, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(FolderStore(tmp_path, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def version(store: Store, weights: bytes, name: str = "tiny", **facts: object) -> ModelVersion:
    return ModelVersion(
        name=name,
        checkpoint=store.blobs.put_bytes("checkpoints", weights, "safetensors"),
        configuration=store.blobs.put_bytes("configurations", b"{}", "json"),
        text_encoder=(("spiece.model", store.blobs.put_bytes("encoders", b"t5", "model")),),
        **facts,  # type: ignore[arg-type]
    )


def test_the_newest_version_is_current(store: Store) -> None:
    first = register(store, version(store, b"1", created_by="operator", notes={"tiny": True}))
    second = register(store, version(store, b"2"))
    assert (first.label, second.label) == ("tiny@1", "tiny@2")
    assert resolve(store, "tiny") == second
    assert resolve(store, "tiny@1") == first
    assert resolve(store, f"sha256:{first.digest}") == first
    assert versions(store, "tiny") == [first, second]
    assert model_names(store) == ["tiny"]
    assert resolve(store, "tiny@1").notes == {"tiny": True}


def test_the_digest_is_of_what_decides_the_sound(store: Store) -> None:
    one = version(store, b"1")
    assert one.digest == replace(one, created_by="another", reason="another", name="other").digest
    assert one.digest != version(store, b"2").digest
    assert one.digest != replace(one, text_encoder=()).digest


def adapter(store: Store, content: bytes) -> ModelAdapter:
    ref = store.blobs.put_bytes("checkpoints", content, "safetensors")
    return ModelAdapter(artifact=ref, kind=ADAPTER_KIND_DORA, rank=16, alpha=16, targets=["attention"])


def test_adapters_and_their_order_are_part_of_the_digest(store: Store) -> None:
    base, one, two = version(store, b"1"), adapter(store, b"one"), adapter(store, b"two")
    found = {replace(base, adapters=those).digest for those in ((), (one,), (two,), (one, two), (two, one))}
    assert len(found) == 5
    assert base.digest in found


def test_a_version_without_adapters_has_the_digest_of_before_there_were_any(store: Store) -> None:
    """As Luthier 0.1 computed it: the checkpoint, the configuration, the files of the text encoder."""
    one = version(store, b"1")
    files = [["spiece.model", one.text_encoder[0][1].sha256]]
    spelled = json.dumps([one.checkpoint.sha256, one.configuration.sha256, files], separators=(",", ":"))
    assert one.digest == hashlib.sha256(spelled.encode()).hexdigest()


def test_adapters_are_read_back_and_kept_by_a_promotion(store: Store) -> None:
    first = register(store, replace(version(store, b"1"), adapters=[adapter(store, b"one")]))
    assert resolve(store, "tiny") == first
    notes = {PROMOTED_FROM: first.label}
    promoted = register(store, replace(first, name="production", notes=notes, created_at=None, n=0), promotion=True)
    assert (promoted.digest, promoted.adapters) == (first.digest, first.adapters)


def test_an_adapter_must_be_stored(store: Store) -> None:
    found = adapter(store, b"one")
    store.objects.delete(found.artifact.key)
    with pytest.raises(NotFound, match=found.artifact.key):
        register(store, replace(version(store, b"1"), adapters=[found]))


def test_a_version_has_eight_adapters_at_most(store: Store) -> None:
    found = [adapter(store, b"%d" % n) for n in range(9)]
    register(store, replace(version(store, b"1"), adapters=found[:8]))
    with pytest.raises(InvalidRequest, match="adapters: must be at most 8, got 9"):
        register(store, replace(version(store, b"1"), adapters=found))


def test_rollback_appends_the_older_digest(store: Store) -> None:
    first = register(store, version(store, b"1"))
    register(store, version(store, b"2"))
    back = register(store, replace(first, reason="worse by ear", created_by="ann"))
    assert (back.n, back.digest) == (3, first.digest)
    assert resolve(store, f"sha256:{first.digest}").n == 3


def test_registering_what_is_current_again_changes_nothing(store: Store) -> None:
    once = register(store, version(store, b"1", reason="trained"))
    assert register(store, version(store, b"1", reason="trained")) == once


def test_racing_registrations_all_get_a_number(store: Store) -> None:
    drafts = [version(store, b"%d" % n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        numbers = [v.n for v in pool.map(lambda draft: register(store, draft), drafts)]
    assert sorted(numbers) == list(range(1, 9))


@pytest.mark.parametrize("model", ["", "nobody", "tiny@2", "tiny@0", "tiny@x", "tiny@", "sha256:00", "../x", "TINY"])
def test_an_unknown_model_says_what_there_is(store: Store, model: str) -> None:
    register(store, version(store, b"1"))
    with pytest.raises(NotFound, match=r"known models: tiny \(@1 to @1\)") as caught:
        resolve(store, model)
    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_without_models_it_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="none is registered"):
        resolve(store, "sao")


def test_a_version_without_its_files_is_refused(store: Store) -> None:
    draft = version(store, b"1")
    store.objects.delete(draft.checkpoint.key)
    with pytest.raises(NotFound, match="is not stored"):
        register(store, draft)


@pytest.mark.parametrize("name", ["", "a b", "x@1", "sha256:ab", "-x", "a" * 65])
def test_a_bad_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        register(store, version(store, b"1", name=name))


def test_a_promoted_name_changes_by_promotion_alone(store: Store) -> None:
    candidate = register(store, version(store, b"1"))
    promoted = replace(candidate, name="production", notes={PROMOTED_FROM: candidate.label}, created_at=None, n=0)
    register(store, promoted, promotion=True)
    with pytest.raises(FailedPrecondition, match="promoted name") as refused:
        register(store, version(store, b"2", name="production"))
    assert refused.value.reason == "NAME_IS_PROMOTED"
    assert resolve(store, "production").digest == candidate.digest
    other = register(store, version(store, b"2"))
    again = replace(other, name="production", notes={PROMOTED_FROM: other.label}, created_at=None, n=0)
    assert register(store, again, promotion=True).n == 2


def test_what_registering_returns_is_what_is_read_later_to_the_kind_of_number(store: Store) -> None:
    notes = {"whole": 8, "float": 0.1, "whole float": 1.0, "huge float": 1e300, "edge": -(2**53), "list": (1, [2.5])}
    registered = register(store, version(store, b"1", notes=notes))
    assert registered.notes == {**notes, "list": [1, [2.5]]}
    assert json.dumps(resolve(store, "tiny").notes, sort_keys=True) == json.dumps(registered.notes, sort_keys=True)
    assert [type(registered.notes[name]) for name in ("whole", "float", "whole float", "huge float", "edge")] == [
        int, float, int, float, int,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("notes", "field", "rule"),
    [
        ({"seed": 2**53 + 1}, "notes.seed", "2^53"),
        ({"a": [1, {"b": -(2**63)}]}, "notes.a[1].b", "2^53"),
        ({"loss": float("nan")}, "notes.loss", "finite"),
        ({"loss": [float("-inf")]}, "notes.loss[0]", "finite"),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "notes.when", "must be JSON, got a datetime"),
        ({"bytes": b"x"}, "notes.bytes", "must be JSON, got a bytes"),
        ({1: "one"}, "notes.1", "must have a text as its name"),
    ],
)
def test_notes_that_would_be_read_back_otherwise_are_refused_by_name(
    store: Store, notes: dict[object, object], field: str, rule: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        register(store, version(store, b"1", notes=notes))
    ((where, why),) = refused.value.violations
    assert (refused.value.reason, where) == ("MODEL_NOTES_INVALID", field)
    assert rule in why
    assert model_names(store) == []


def test_a_card_goes_with_its_version_and_must_be_stored(store: Store) -> None:
    card = store.blobs.put_bytes("model-cards", b"{}", "json", "application/json")
    carded = register(store, replace(version(store, b"1", "tuned"), card=card))
    assert resolve(store, "tuned").card == card
    assert carded.digest == version(store, b"1", "tuned").digest, "it decides no sound"
    assert register(store, version(store, b"1", "plain")).card is None
    store.objects.delete(card.key)
    with pytest.raises(NotFound, match="model-cards/"):
        register(store, replace(version(store, b"1", "other"), card=card))
