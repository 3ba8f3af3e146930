"""The records of takedowns, their signatures, and the audit trail."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from luthier.curation.v1.curation_pb2 import ListClipsResponse
from luthier.pipeline.v1.pipeline_pb2 import TAKEDOWN_STATE_DONE, TAKEDOWN_STATE_STARTED, TakedownRecord
from luthier_kit.rpc import SettingsError
from luthier_kit.store import Digests, Store, to_json
from luthier_pipeline.retention.records import takedowns
from luthier_pipeline.retention.signing import SignatureState, load_signer, state_of
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier
from tests.pipeline.filled_store import FilledStore


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key as an operator makes it; the public one lies beside it."""
    path = tmp_path / "key.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(path))
    openssl("pkey", "-in", str(path), "-pubout", "-out", str(path.with_suffix(".pub")))
    return path


def run(store: Store, line: str, **environ: str) -> Done:
    clients = FakeClients(store, curation=Stub(ListClips=ListClipsResponse()))
    clients.environ = {**clients.environ, **environ}
    return luthier(f"{line} --json", clients)


def take(store: Store, path: str = "Artist/Song 1.mid", **environ: str) -> dict[str, Any]:
    return run(store, f"takedown '{path}' --reason 'the composer asked' --as ann --yes", **environ).document


def test_the_record_says_who_asked_for_what_why_when_and_what_fell(store: Store, key: Path) -> None:
    filled = FilledStore(store)
    done = take(store, LUTHIER_SIGNING_KEY_FILE=str(key))
    [(_, started), (number, record)] = takedowns(store).entries()
    assert (number, done["record"], done["signed"]) == (2, 2, True)
    assert (started.state, record.state, list(record.completes)) == (TAKEDOWN_STATE_STARTED, TAKEDOWN_STATE_DONE, [1])
    assert (started.reason, started.files, started.digests_sha256) == (
        record.reason, record.files, record.digests_sha256,
    )  # fmt: skip
    assert (record.name, record.taken_down_by, record.reason) == ("Artist/Song 1.mid", "ann", "the composer asked")
    assert (record.files, record.clips, list(record.datasets), list(record.models)) == (3, 1, ["way@1"], ["tuned@1"])
    fell = [bytes.fromhex(ref.sha256) for ref in (filled.midi[1], filled.mixes[1], filled.clips[1])]
    assert record.digests_sha256 == Digests.of(fell).sha256
    assert list(record.sets) == [1]
    assert record.output_count == len(record.outputs) == 2


def test_a_signature_holds_by_the_public_key_alone(store: Store, key: Path) -> None:
    """As RFC 8032 has it, over the bytes that the record's comment names."""
    FilledStore(store)
    take(store, LUTHIER_SIGNING_KEY_FILE=str(key))
    [_, (_, record)] = takedowns(store).entries()
    signature = record.signature
    record.ClearField("signature")
    Ed25519PublicKey.from_public_bytes(record.public_key).verify(signature, to_json(record))


def test_takedowns_are_listed_with_the_state_of_their_signatures(store: Store, key: Path, tmp_path: Path) -> None:
    FilledStore(store)
    take(store, LUTHIER_SIGNING_KEY_FILE=str(key))
    take(store, "Artist/Song 0.mid")
    listed = run(store, "takedowns")
    states = [entry["signature_state"] for entry in listed.document["takedowns"]]
    assert (listed.code, states) == (0, 2 * ["HOLDS"] + 2 * ["UNSIGNED"])
    own = run(store, f"takedowns --public-key {key.with_suffix('.pub')}")
    assert (own.code, [e["signature_state"] for e in own.document["takedowns"]]) == (
        1,
        2 * ["HOLDS"] + 2 * ["UNSIGNED"],
    )
    other = tmp_path / "other.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(other))
    openssl("pkey", "-in", str(other), "-pubout", "-out", str(other.with_suffix(".pub")))
    strange = run(store, f"takedowns --public-key {other.with_suffix('.pub')}")
    assert [e["signature_state"] for e in strange.document["takedowns"]] == 2 * ["OTHER_KEY"] + 2 * ["UNSIGNED"]


@pytest.mark.parametrize("field", ["reason", "name", "taken_down_by", "digests_sha256", "files", "public_key", "state"])
def test_a_record_that_was_changed_is_told(store: Store, key: Path, field: str) -> None:
    FilledStore(store)
    take(store, LUTHIER_SIGNING_KEY_FILE=str(key))
    [_, (_, record)] = takedowns(store).entries()
    assert state_of(record) is SignatureState.HOLDS
    value = getattr(record, field)
    setattr(record, field, value + (b"x" if isinstance(value, bytes) else 1 if isinstance(value, int) else "x"))
    assert state_of(record) is SignatureState.BROKEN
    takedowns(store).append(record)
    assert run(store, "takedowns").code == 1


def test_without_a_key_the_record_is_unsigned_and_says_so(store: Store) -> None:
    FilledStore(store)
    assert take(store)["signed"] is False
    assert state_of(TakedownRecord()) is SignatureState.UNSIGNED


@pytest.mark.parametrize("kind", ["rsa", "text", "missing"])
def test_what_is_no_such_key_is_a_wrong_setting_before_anything_falls(store: Store, tmp_path: Path, kind: str) -> None:
    FilledStore(store)
    path = tmp_path / "key.pem"
    if kind == "rsa":
        openssl("genpkey", "-algorithm", "rsa", "-out", str(path))
    elif kind == "text":
        path.write_text("not a key")
    with pytest.raises(SettingsError, match="LUTHIER_SIGNING_KEY"):
        load_signer({"LUTHIER_SIGNING_KEY_FILE": str(path)})
    done = run(store, "takedown 'Artist/Song 1.mid' --reason x --yes", LUTHIER_SIGNING_KEY_FILE=str(path))
    assert done.code == 1
    assert not list(store.objects.keys("tombstones/"))


def test_the_audit_trail_is_listed_with_filters(store: Store) -> None:
    FilledStore(store)  # registers two models
    take(store)
    assert run(store, "gc --as bob").code == 0
    everything = run(store, "audit").document["entries"]
    assert [entry["done"] for entry in everything] == ["register", "register", "takedown", "delete"]
    [takedown] = run(store, "audit --actor ANN").document["entries"]
    assert (takedown["actor"], takedown["reason"], takedown["document"]) == (
        "ann",
        "the composer asked",
        "takedowns/2.json",
    )
    assert takedown["subject"] == "file Artist/Song 1.mid: 3 files, 1 clips"
    [deleted] = run(store, "audit --action delete").document["entries"]
    assert (deleted["actor"], "3" in deleted["subject"], "taken down" in deleted["subject"]) == ("bob", False, True)
    assert len(run(store, "audit --subject base@1").document["entries"]) == 1
    assert run(store, "audit --until 2001-01-01").document["entries"] == []
    assert run(store, "audit --forced").document["entries"] == []
    assert run(store, "audit --since yesterday").code == 2


def test_a_dry_run_leaves_no_trace(store: Store) -> None:
    FilledStore(store)
    run(store, "takedown 'Artist/Song 1.mid' --reason x --dry-run")
    assert [entry["done"] for entry in run(store, "audit --action takedown").document["entries"]] == []
    assert run(store, "takedowns").document["takedowns"] == []
