"""`luthier verify`: what a file says of what made it."""

from pathlib import Path
from typing import Any

import pytest

from luthier.inference.v1.inference_pb2 import (
    CREDENTIALS_FINDING_CHANGED,
    CREDENTIALS_FINDING_INTACT,
    CREDENTIALS_FINDING_NONE,
    CREDENTIALS_FINDING_UNREADABLE,
    CREDENTIALS_TRUST_EXPIRED,
    CREDENTIALS_TRUST_NOT_ASKED,
    CREDENTIALS_TRUST_NOT_LISTED,
    CREDENTIALS_TRUST_TRUSTED,
    CREDENTIALS_TRUST_UNFIT,
    WATERMARK_FINDING_KNOWN,
    CredentialsFinding,
    CredentialsTrust,
    DetectMarksResponse,
    FoundCredentials,
    FoundWatermark,
    KnownOutput,
)
from luthier_kit.store import Store
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier

INTACT = FoundCredentials(
    finding=CREDENTIALS_FINDING_INTACT, issuer="Acme", made_by_model=True, model="demo@1",
    model_digest="sha256:12", seed="7", action_key="actions/generate/34.json", claim_generator="Luthier 0.1.0",
)  # fmt: skip


def verified(store: Store, folder: Path, found: DetectMarksResponse, more: str = "") -> Done:
    (folder / "song.flac").write_bytes(b"song")
    return luthier(f"verify {folder / 'song.flac'} {more}", FakeClients(store, inference=Stub(DetectMarks=found)))


def test_an_output_is_told_with_its_model_and_how_to_go_on(store: Store, tmp_path: Path) -> None:
    done = verified(store, tmp_path, DetectMarksResponse(credentials=INTACT, output_key="generated/56.flac"))

    assert done.code == 0
    assert done.out.splitlines() == [
        "content credentials: intact, signed by Acme",
        "made by a model",
        "model demo@1 (sha256:12), seed 7, record actions/generate/34.json",
        "an output of this installation: luthier lineage generated/56.flac",
    ]


@pytest.mark.parametrize(
    ("finding", "told"),
    [
        (CREDENTIALS_FINDING_CHANGED, "the file was changed after Acme signed it"),
        (CREDENTIALS_FINDING_NONE, "content credentials: none"),
        (CREDENTIALS_FINDING_UNREADABLE, "the file is damaged"),
    ],
)
def test_what_does_not_hold_ends_with_one_and_says_nothing_of_a_model(
    store: Store, tmp_path: Path, finding: CredentialsFinding, told: str
) -> None:
    found = FoundCredentials(finding=finding, issuer="Acme", made_by_model=True, model="demo@1", faults=["a.b"])

    done = verified(store, tmp_path, DetectMarksResponse(credentials=found))

    assert done.code == 1
    assert told in done.out
    assert "demo@1" not in done.out
    assert "fault: a.b" in done.out
    assert "no output of this installation has these bytes" in done.out


def test_it_answers_in_json(store: Store, tmp_path: Path) -> None:
    document = verified(store, tmp_path, DetectMarksResponse(credentials=INTACT), "--json").document

    assert document["credentials"]["finding"] == "CREDENTIALS_FINDING_INTACT"


def test_what_the_sound_tells_is_said_with_its_place(store: Store, tmp_path: Path) -> None:
    watermark = FoundWatermark(finding=WATERMARK_FINDING_KNOWN, id="ab" * 16, action_key="actions/generate/78.json")
    known = KnownOutput(
        output_key="generated/56.flac", model="demo@1", at_s=1.25, output_at_s=20.0, duration_s=10.0, score=0.75
    )
    found = DetectMarksResponse(
        credentials=FoundCredentials(finding=CREDENTIALS_FINDING_NONE), watermark=watermark, known=[known],
        listened_for=3, notes=["only its first 600 s were listened to"],
    )  # fmt: skip

    done = verified(store, tmp_path, found)

    assert done.code == 1
    assert done.out.splitlines()[-3:] == [
        "watermark: found, it leads to actions/generate/78.json",
        "known output by sound: 1.2 to 11.2 s is generated/56.flac of demo@1 from 20.0 s on, score 0.75 of 1",
        "note: only its first 600 s were listened to",
    ]


def test_how_many_outputs_were_listened_for_in_vain_is_said(store: Store, tmp_path: Path) -> None:
    done = verified(store, tmp_path, DetectMarksResponse(credentials=INTACT, listened_for=3))

    assert "known output by sound: none of 3" in done.out


def trusted(trust: CredentialsTrust, **more: Any) -> FoundCredentials:
    found = FoundCredentials(finding=CREDENTIALS_FINDING_INTACT, issuer="Acme", trust=trust, **more)
    found.stamped_at.FromJsonString("2026-11-30T18:21:24Z")
    return found


@pytest.mark.parametrize(
    ("trust", "told", "code"),
    [
        (CREDENTIALS_TRUST_NOT_ASKED, "signer: nobody was asked", 0),
        (CREDENTIALS_TRUST_TRUSTED, "signer: trusted by", 0),
        (CREDENTIALS_TRUST_NOT_LISTED, "signer: not on", 1),
        (CREDENTIALS_TRUST_EXPIRED, "signer: its certificate has expired", 1),
        (CREDENTIALS_TRUST_UNFIT, "signer: its certificate was revoked", 1),
    ],
)
def test_who_is_not_trusted_ends_with_one(
    store: Store, tmp_path: Path, trust: CredentialsTrust, told: str, code: int
) -> None:
    done = verified(store, tmp_path, DetectMarksResponse(credentials=trusted(trust)))

    assert (done.code, told in done.out, "intact, signed by Acme" in done.out) == (code, True, True)


def test_a_list_goes_with_the_request_and_is_named_in_the_answer(store: Store, tmp_path: Path) -> None:
    (tmp_path / "song.flac").write_bytes(b"song")
    (tmp_path / "list.pem").write_bytes(b"certificates")
    found = trusted(CREDENTIALS_TRUST_TRUSTED, time_authority="Clock", time_authority_trusted=True)
    inference = Stub(DetectMarks=DetectMarksResponse(credentials=found))

    done = luthier(
        f"verify {tmp_path / 'song.flac'} --trust {tmp_path / 'list.pem'}", FakeClients(store, inference=inference)
    )

    [request] = inference.requests("DetectMarks")
    assert request.trust_anchors == b"certificates"
    assert f"signer: trusted by {tmp_path / 'list.pem'}" in done.out
    assert "time stamp: it was signed by 2026-11-30 18:21:24 UTC, says Clock, which is on the list" in done.out


@pytest.mark.parametrize("data", [b"", b"x" * ((1 << 20) + 1)])
def test_a_list_of_no_size_is_refused_before_anything_is_sent(store: Store, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "song.flac").write_bytes(b"song")
    (tmp_path / "list.pem").write_bytes(data)
    inference = Stub(DetectMarks=DetectMarksResponse())

    done = luthier(
        f"verify {tmp_path / 'song.flac'} --trust {tmp_path / 'list.pem'}", FakeClients(store, inference=inference)
    )

    assert (done.code, "--trust" in done.err, inference.requests("DetectMarks")) == (1, True, [])


def test_a_certificate_for_development_is_told(store: Store, tmp_path: Path) -> None:
    found = trusted(CREDENTIALS_TRUST_NOT_ASKED)
    found.issuer = "Luthier development"

    done = verified(store, tmp_path, DetectMarksResponse(credentials=found))

    assert "a certificate for development" in done.out


def test_a_service_that_asks_no_list_does_not_pass_for_one_that_trusts(store: Store, tmp_path: Path) -> None:
    (tmp_path / "list.pem").write_bytes(b"certificates")

    done = verified(store, tmp_path, DetectMarksResponse(credentials=INTACT), f"--trust {tmp_path / 'list.pem'}")

    assert (done.code, "nobody was asked" in done.out) == (1, True)
