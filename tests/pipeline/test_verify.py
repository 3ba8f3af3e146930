"""`luthier verify`: what a file says of what made it."""

from pathlib import Path

import pytest

from luthier.inference.v1.inference_pb2 import (
    CREDENTIALS_FINDING_CHANGED,
    CREDENTIALS_FINDING_INTACT,
    CREDENTIALS_FINDING_NONE,
    CREDENTIALS_FINDING_UNREADABLE,
    WATERMARK_FINDING_KNOWN,
    CredentialsFinding,
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
