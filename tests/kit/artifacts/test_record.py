"""Action records: found artifacts, and documents that are not records."""

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse, Stem
from luthier_kit.store import Action, artifacts_in, of_result, parse


def test_artifacts_are_found_at_any_depth() -> None:
    stems = [Stem(audio=ArtifactRef(key="stems/1")), Stem(audio=ArtifactRef(key="stems/2")), Stem()]
    message = RenderSongResponse(mix=ArtifactRef(key="mixes/1"), stems=stems)
    assert [ref.key for ref in artifacts_in(message)] == ["mixes/1", "stems/1", "stems/2"]


def test_what_a_record_holds_comes_back() -> None:
    message = RenderSongResponse(
        seed=2**63, cpu_s=0.1, fingerprint="ab", mix=ArtifactRef(key="mixes/x", size_bytes=2**40)
    )
    record = parse("k", 1, of_result(Action("render"), 1, "c", message))
    assert record
    response = record.response(RenderSongResponse, reused=True)
    response.ClearField("action")
    assert response == message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"{}", b'{"created_at": 1}', b"\xff"])
def test_what_is_no_record_is_void(data: bytes) -> None:
    assert parse("k", 1, data) is None
